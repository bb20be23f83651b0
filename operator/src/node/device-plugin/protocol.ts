import { join } from "node:path";
import {
  type GrpcObject,
  type handleServerStreamingCall,
  type handleUnaryCall,
  loadPackageDefinition,
  type ServiceClientConstructor,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

export const DEVICE_PLUGIN_VERSION = "v1beta1";

export interface RegisterRequest {
  readonly version: string;
  readonly endpoint: string;
  readonly resource_name: string;
  readonly options: Readonly<Record<string, never>>;
}

export interface ListAndWatchResponse {
  readonly devices: readonly { readonly ID: string; readonly health: "Healthy" | "Unhealthy" }[];
}

export interface AllocateRequest {
  readonly container_requests: readonly { readonly devices_ids: readonly string[] }[];
}

export interface AllocateResponse {
  readonly container_responses: readonly { readonly mounts: readonly Mount[] }[];
}

export interface Mount {
  readonly container_path: string;
  readonly host_path: string;
  readonly read_only: boolean;
}

type Empty = Readonly<Record<string, never>>;

/** What a plugin serves. */
export interface DevicePluginService extends UntypedServiceImplementation {
  GetDevicePluginOptions: handleUnaryCall<Empty, Empty>;
  ListAndWatch: handleServerStreamingCall<Empty, ListAndWatchResponse>;
  Allocate: handleUnaryCall<AllocateRequest, AllocateResponse>;
}

export interface DevicePluginProtocol {
  readonly Registration: ServiceClientConstructor;
  readonly DevicePlugin: ServiceClientConstructor;
}

/** Both services, from deviceplugin.proto beside this file. */
export function loadDevicePluginProtocol(): DevicePluginProtocol {
  const definition = loadSync(join(import.meta.dirname, "deviceplugin.proto"), { keepCase: true, defaults: true });
  const { v1beta1 } = loadPackageDefinition(definition) as { v1beta1: GrpcObject };
  return v1beta1 as unknown as DevicePluginProtocol;
}

export function serviceOf(client: ServiceClientConstructor): ServiceDefinition {
  return client.service;
}
