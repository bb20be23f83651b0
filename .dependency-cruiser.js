// Layers, lowest first: a folder of launcher/src imports only itself and those before it (design: docs/architecture.md).
const launcherLayers = [
  "codec",
  "measure",
  "sys",
  "kvm",
  "memory",
  "boot",
  "acpi",
  "limits",
  "pci",
  "legacy",
  "storage",
  "import",
  "net",
  "virtio",
  "machine",
  "migration",
  "config",
  "control",
];

const layerRules = launcherLayers.map((layer, i) => ({
  name: `launcher-${layer}-stays-low`,
  comment: `launcher/src/${layer} may import only lower layers`,
  severity: "error",
  from: { path: `^launcher/src/${layer}/`, pathNot: "\\.test\\.ts$" },
  to: { path: `^launcher/src/(${[...launcherLayers.slice(i + 1), "main\\.ts"].join("|")})` },
}));

export default {
  forbidden: [
    ...layerRules,
    {
      name: "launcher-runs-on-node-alone",
      comment: "the launcher's run time is Node and koffi (loaded as a file, not as a package)",
      severity: "error",
      from: { path: "^launcher/(src|api)/", pathNot: "\\.test\\.ts$|/testing/" },
      to: {
        dependencyTypes: ["npm", "npm-dev", "npm-optional", "npm-peer"],
        dependencyTypesNot: ["type-only"],
      },
    },
    {
      name: "launcher-knows-no-kubernetes",
      severity: "error",
      from: { path: "^launcher/(src|api)/" },
      to: { path: "^(operator|crds|hack|e2e)/" },
    },
    {
      name: "api-knows-no-client",
      severity: "error",
      from: { path: "^crds/src/", pathNot: "\\.test\\.ts$" },
      to: { path: "^(operator|launcher|hack|e2e)/" },
    },
    {
      name: "operator-uses-contracts-only",
      comment:
        "of the launcher the operator sees its API, and the node agent its system calls, and what KVM gives to guests",
      severity: "error",
      from: { path: "^operator/src/", pathNot: "\\.test\\.ts$" },
      to: { path: "^launcher/src/(?!sys/|kvm/x86/host-features\\.ts)" },
    },
    {
      name: "cli-uses-clients-only",
      comment: "of the operator the CLI sees the API client and names, and of the launcher its API",
      severity: "error",
      from: { path: "^cli/src/", pathNot: "\\.test\\.ts$|/testing/" },
      to: {
        path: "^(operator/src/(?!runtime/|controllers/virtualmachine(migration)?/names\\.ts)|launcher/src/|hack/|e2e/)",
        dependencyTypesNot: ["type-only"],
      },
    },
    {
      name: "nobody-needs-the-cli",
      severity: "error",
      from: { path: "^(operator|launcher|crds)/" },
      to: { path: "^cli/" },
    },
    {
      name: "no-cycles",
      severity: "error",
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: { extensions: [".ts", ".js", ".json"] },
  },
};
