import type { z } from "zod";
import { UNSEEN_STATUS } from "../condition.ts";
import { API_GROUP, API_VERSION } from "../names.ts";
import { SchemaError, type StructuralSchema, structuralSchema } from "./structural-schema.ts";

/** Names that kubectl takes for a kind. */
export interface ResourceNames {
  readonly kind: string;
  readonly listKind: string;
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
}

/** A column of `kubectl get`; priority 1 shows with `-o wide` only. */
export interface PrinterColumn {
  readonly name: string;
  readonly type: "string" | "integer" | "date";
  readonly jsonPath: string;
  readonly description: string;
  readonly priority?: 1;
}

/** Schema of a kind with a required spec, and a status that says from the first moment whether it was seen. */
export function kindSchema(schema: z.ZodType, kind: string): StructuralSchema {
  const root = structuralSchema(schema);
  const status = root.properties?.["status"];
  if (status === undefined) throw new SchemaError("status", "a kind has one");
  root.properties = {
    ...root.properties,
    status: { ...status, default: UNSEEN_STATUS },
    apiVersion: { type: "string", description: `Always ${API_GROUP}/${API_VERSION}.` },
    kind: { type: "string", description: `Always ${kind}.` },
    metadata: { type: "object" },
  };
  root.required = ["spec"];
  return root;
}

export type CustomResourceDefinition = ReturnType<typeof customResourceDefinition>;

/** The CustomResourceDefinition of a namespaced kind with status, as apiextensions.k8s.io/v1 takes it. */
export function customResourceDefinition(
  names: ResourceNames,
  additionalPrinterColumns: readonly PrinterColumn[],
  openAPIV3Schema: StructuralSchema,
) {
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${names.plural}.${API_GROUP}` },
    spec: {
      group: API_GROUP,
      scope: "Namespaced",
      names,
      versions: [
        {
          name: API_VERSION,
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns,
          schema: { openAPIV3Schema },
        },
      ],
    },
  };
}
