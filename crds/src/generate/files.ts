import { stringify } from "yaml";
import type { CustomResourceDefinition } from "./custom-resource.ts";
import { knownFields } from "./known-fields.ts";
import { apiReference } from "./reference.ts";
import { troubleshooting } from "./troubleshooting.ts";
import { virtualMachineCrd } from "./virtualmachine-crd.ts";
import { virtualMachineImageCrd } from "./virtualmachineimage-crd.ts";
import { virtualMachineMigrationCrd } from "./virtualmachinemigration-crd.ts";

const header = "# Generated from crds/src by hack/generate; do not edit.\n";

/** Everything that is generated from the schemas: paths in the repository, and contents. */
export function generatedFiles(): ReadonlyMap<string, string> {
  const crds = [virtualMachineCrd(), virtualMachineImageCrd(), virtualMachineMigrationCrd()];
  const definitions = crds.flatMap((crd) => {
    const { plural } = crd.spec.names;
    return [
      [`crds/typevisor.io_${plural}.yaml`, header + toYaml(crd)],
      [`charts/typevisor/templates/crds/${plural}.yaml`, chartTemplate(crd)],
    ] as const;
  });
  return new Map([
    ...definitions,
    ["crds/src/known-fields.ts", knownFields(crds)],
    ["docs/api.md", apiReference()],
    ["docs/troubleshooting.md", troubleshooting()],
  ]);
}

function toYaml(value: unknown): string {
  return stringify(value, { lineWidth: 0, aliasDuplicateObjects: false });
}

/**
 * The chart's copy is a template, and not in Helm's crds/ folder, which Helm never upgrades. It outlives the release
 * unless crds.keep is false.
 */
function chartTemplate(crd: CustomResourceDefinition): string {
  const { apiVersion, kind, metadata, spec } = crd;
  const body = toYaml({ spec });
  if (body.includes("{{")) throw new Error("the schema has '{{', which Helm would read as a template");
  return `{{- /* Generated from crds/src by hack/generate; do not edit. */ -}}
{{- if .Values.crds.install }}
apiVersion: ${apiVersion}
kind: ${kind}
metadata:
  name: ${metadata.name}
  labels:
    {{- include "typevisor.labels" . | nindent 4 }}
  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
${body}{{- end }}
`;
}
