/** docs/api.md: the API reference, from the schema. */
import { conditionTypes } from "../condition.ts";
import { GROUP_VERSION } from "../names.ts";
import { notYet } from "../not-yet.ts";
import { reasons } from "../reasons.ts";
import { phases } from "../status.ts";
import { importPhases } from "../virtualmachineimage.ts";
import { migrationConditionTypes, migrationPhases } from "../virtualmachinemigration.ts";
import { nodeAt, type StructuralSchema } from "./structural-schema.ts";
import { virtualMachineNames, virtualMachineSchema } from "./virtualmachine-crd.ts";
import { virtualMachineImageNames, virtualMachineImageSchema } from "./virtualmachineimage-crd.ts";
import { virtualMachineMigrationNames, virtualMachineMigrationSchema } from "./virtualmachinemigration-crd.ts";

/** Fields that are exactly the PodSpec's: their parts are told by Kubernetes' own reference. */
const asInPods = [
  "spec.template.spec.affinity",
  "spec.template.spec.tolerations[]",
  "spec.template.spec.topologySpreadConstraints[]",
];
const podReference = "https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#scheduling";

export function apiReference(): string {
  const schema = virtualMachineSchema();
  const { kind, plural, shortNames, categories } = virtualMachineNames;
  return `${[
    "# API reference",
    "Generated from `crds/src` by `hack/generate`; do not edit. The same text: `kubectl explain vm.spec --recursive`.",
    `## ${kind}`,
    `\`${GROUP_VERSION}\`, namespaced. ${schema.description}`,
    `\`kubectl get ${shortNames.join("`, `kubectl get ")}\` (or \`${plural}\`) lists them; \`kubectl get ${categories.join(", ")}\` lists all kinds of Typevisor.`,
    example,
    "Fields that the API does not know are refused by `kubectl` and by every client that asks for strict field validation.",
    ...objectSections("spec", nodeAt(schema, "spec")),
    ...notYetSection(),
    ...objectSections("status", nodeAt(schema, "status")),
    "### Phases",
    "`status.phase` sums up the conditions for people; programs read the conditions.",
    definitionTable("Phase", phases),
    "### Conditions",
    "All are present once the operator has seen the object, each with `observedGeneration`.",
    definitionTable("Condition", conditionTypes),
    "### Reasons",
    "Reasons of conditions and events. The message of each says more about the case at hand.",
    definitionTable("Reason", reasons),
    ...imageSections(),
    ...migrationSections(),
  ].join("\n\n")}\n`;
}

function imageSections(): string[] {
  const schema = virtualMachineImageSchema();
  const { kind, plural, shortNames } = virtualMachineImageNames;
  const sections = ["spec", "status"].flatMap((part) => objectSections(part, nodeAt(schema, part)));
  return [
    `## ${kind}`,
    `\`${GROUP_VERSION}\`, namespaced. ${schema.description} [import.md](import.md) tells how.`,
    `\`kubectl get ${shortNames.join("`, `kubectl get ")}\` (or \`${plural}\`) lists them.`,
    ...sections,
    "### Phases of an import",
    definitionTable("Phase", importPhases),
  ];
}

function migrationSections(): string[] {
  const schema = virtualMachineMigrationSchema();
  const { kind, plural, shortNames } = virtualMachineMigrationNames;
  const rules = schema["x-kubernetes-validations"] ?? [];
  return [
    `## ${kind}`,
    `\`${GROUP_VERSION}\`, namespaced. ${schema.description} [migration.md](migration.md) tells how.`,
    `\`kubectl get ${shortNames.join("`, `kubectl get ")}\` (or \`${plural}\`) lists them.`,
    `Rules:\n${rules.map((rule) => `- ${escapeText(rule.message)}`).join("\n")}`,
    ...["spec", "status"].flatMap((part) => objectSections(part, nodeAt(schema, part))),
    "### Phases of a migration",
    definitionTable("Phase", migrationPhases),
    "### Conditions of a migration",
    definitionTable("Condition", migrationConditionTypes),
  ];
}

const example = `\`\`\`yaml
apiVersion: ${GROUP_VERSION}
kind: VirtualMachine
metadata:
  name: web
spec:
  cpu:
    cores: 2
  memory:
    size: 1Gi
  boot:
    kernel:
      image:
        reference: registry.example/debian-vm:13
      path: /boot/vmlinuz
      initrd: /boot/initrd.img
      cmdline: console=ttyS0 root=/dev/vda
  disks:
    - name: root
      image:
        reference: registry.example/debian-vm:13
\`\`\``;

/** A section for the object at `path` and one for each object in it. */
function objectSections(path: string, schema: StructuralSchema): string[] {
  const level = Math.min(6, 2 + path.split(".").length);
  const sections = [`${"#".repeat(level)} ${path}`];
  if (schema.description) sections.push(escapeText(schema.description));
  const properties = Object.entries(schema.properties ?? {});
  sections.push(
    table(
      ["Field", "Type", "Description"],
      properties.map(([name, child]) => [
        `\`${name}\`${schema.required?.includes(name) ? " (required)" : ""}`,
        typeOf(child),
        fieldText(child, `${path}.${name}`),
      ]),
    ),
  );
  const rules = schema["x-kubernetes-validations"]?.filter((rule) => !isNotYet(path, rule.message)) ?? [];
  if (rules.length > 0) sections.push(`Rules:\n${rules.map((rule) => `- ${escapeText(rule.message)}`).join("\n")}`);
  for (const [name, child] of properties) {
    const [childPath, object] =
      child.items === undefined ? [`${path}.${name}`, child] : [`${path}.${name}[]`, child.items];
    const isLeaf = Object.keys(object.properties ?? {}).length === 0;
    if (!isLeaf && !asInPods.includes(childPath)) sections.push(...objectSections(childPath, withText(object, child)));
  }
  return sections;
}

/** A list's text stands on the list, not on its entries. */
function withText(object: StructuralSchema, parent: StructuralSchema): StructuralSchema {
  const description = object.description ?? parent.description;
  return description === undefined ? object : { ...object, description };
}

function isNotYet(path: string, message: string): boolean {
  return notYet.some((entry) => entry.at === path && entry.message === message);
}

function typeOf(schema: StructuralSchema): string {
  if (schema["x-kubernetes-int-or-string"]) return "quantity";
  if (schema.type === "array") return `list of ${schema.items ? typeOf(schema.items) : "anything"}`;
  if (schema.additionalProperties) return `map of ${typeOf(schema.additionalProperties)}`;
  if (schema.format === "date-time") return "time";
  return schema.type ?? "anything";
}

function fieldText(schema: StructuralSchema, path: string): string {
  const entry = schema.type === "array" ? `${path}[]` : path;
  const parts = [
    escapeText(schema.description ?? ""),
    schema.enum ? `One of ${schema.enum.map((value) => `\`${value}\``).join(", ")}.` : "",
    schema.default === undefined || isEmpty(schema.default) ? "" : `Default: \`${JSON.stringify(schema.default)}\`.`,
    schema.maxItems ? `At most ${schema.maxItems}.` : "",
    asInPods.includes(entry) ? `See [Pod](${podReference}).` : "",
  ];
  return parts.filter(Boolean).join(" ");
}

function isEmpty(value: unknown): boolean {
  return value === "" || (typeof value === "object" && value !== null && Object.keys(value).length === 0);
}

function notYetSection(): string[] {
  return [
    "### Not available in this version",
    "These are part of the API and are refused with the message beside them until they work.",
    table(
      ["Where", "Message"],
      notYet.map(({ at, fieldPath, message }) => [`\`${at}${fieldPath ?? ""}\``, escapeText(message)]),
    ),
  ];
}

function definitionTable(title: string, definitions: Readonly<Record<string, string>>): string {
  return table(
    [title, "Meaning"],
    Object.entries(definitions).map(([name, meaning]) => [`\`${name}\``, escapeText(meaning)]),
  );
}

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(header), line(header.map(() => "---")), ...rows.map(line)].join("\n");
}

/** What Markdown would read as markup or as the end of a table's cell. */
function escapeText(text: string): string {
  return text.replaceAll("|", "\\|").replaceAll("<", "&lt;").replaceAll("*", "\\*");
}
