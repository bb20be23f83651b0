import type { CpuFeatures } from "../../../../launcher/api/cpu-features.ts";
import { hostFeatures } from "../../../../launcher/src/kvm/x86/host-features.ts";
import { openFile } from "../../../../launcher/src/sys/file-io.ts";
import { Client } from "../../runtime/client.ts";
import { systemClock } from "../../runtime/clock.ts";
import { inClusterConnection, isInCluster } from "../../runtime/connection.ts";
import { messageOf } from "../../runtime/errors.ts";
import type { Logger } from "../../runtime/logger.ts";
import { NodeLabeller } from "./node-labeller.ts";

export interface LabellerInputs {
  readonly environment: NodeJS.ProcessEnv;
  readonly kvmPath: string;
  readonly log: Logger;
  readonly version: string;
}

/** Labels the pod's node until disposed; undefined, with a word in the log, where the agent has no way to the API server. */
export function startLabeller({ environment, kvmPath, log, version }: LabellerInputs): Labelling | undefined {
  const nodeName = environment["NODE_NAME"];
  if (nodeName === undefined || !isInCluster(environment)) {
    log.info({ reason: "NodeNotLabelled" }, "labels no node: there is no NODE_NAME, or no service account");
    return undefined;
  }
  const connection = inClusterConnection(environment);
  const client = new Client(connection, { userAgent: `typevisor-node/${version}` });
  let features = read(kvmPath, log);
  const labeller = new NodeLabeller({ client, clock: systemClock, logger: log, nodeName, features: () => features });
  const stop = new AbortController();
  const running = labeller.run(stop.signal);
  return {
    lookAgain: () => {
      features = read(kvmPath, log) ?? features;
      labeller.look();
    },
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      connection[Symbol.dispose]();
      await running;
    },
  };
}

export interface Labelling extends AsyncDisposable {
  /** /dev/kvm came, went or changed. */
  readonly lookAgain: () => void;
}

function read(kvmPath: string, log: Logger): CpuFeatures | undefined {
  try {
    using device = openFile(kvmPath, { write: true });
    return hostFeatures(device.fd);
  } catch (error) {
    log.warn({ err: messageOf(error), reason: "NodeNotLabelled" }, "it cannot be told what guests are given here");
    return undefined;
  }
}
