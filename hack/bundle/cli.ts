import { readFileSync } from "node:fs";
import { join } from "node:path";
import { bundle, copyInto, putFile, repository } from "./bundle.ts";
import { leanKubernetesClient } from "./lean-kubernetes-client.ts";

/** kubectl's completion runs this and reads the same protocol. */
const COMPLETE = `#!/usr/bin/env node
process.argv.splice(2, 0, "__complete", "--");
require("./kubectl-vm.js");
`;

const manifest = {
  name: "kubectl-vm",
  description: "kubectl vm: start, stop, reach and look into Typevisor's virtual machines",
  type: "commonjs",
  engines: { node: ">=24" },
  bin: { "kubectl-vm": "kubectl-vm.js", "kubectl_complete-vm": "kubectl_complete-vm.js" },
  files: ["kubectl-vm.js", "kubectl_complete-vm.js"],
};

/** dist/cli: a package that `npm install -g` takes as it is. */
export async function bundleCli(): Promise<void> {
  const options = { plugins: [leanKubernetesClient], shebang: "#!/usr/bin/env node" };
  await bundle("cli/src/main.ts", "dist/cli/kubectl-vm.js", options);
  putFile("dist/cli/kubectl_complete-vm.js", COMPLETE, 0o755);
  const { version, license } = JSON.parse(readFileSync(join(repository, "package.json"), "utf8")) as Record<
    string,
    string
  >;
  putFile("dist/cli/package.json", `${JSON.stringify({ ...manifest, version, license }, null, 2)}\n`);
  copyInto(join(repository, "LICENSE"), "dist/cli/LICENSE");
}
