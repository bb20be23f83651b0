import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "@jest/globals";
import { parseAllDocuments } from "yaml";
import { virtualMachine } from "./virtualmachine.ts";
import { virtualMachineImage } from "./virtualmachineimage.ts";
import { virtualMachineMigration } from "./virtualmachinemigration.ts";

const examples = join(import.meta.dirname, "../../examples");
const files = readdirSync(examples).filter((file) => file.endsWith(".yaml"));

describe("the examples", () => {
  it.each(files)("%s is a VirtualMachine, named as its file, of images that hack/images builds", (file) => {
    const objects = parseAllDocuments(readFileSync(join(examples, file), "utf8")).map((document) => document.toJS());
    const ofKind = (kind: string) => objects.filter((object: { kind: string }) => object.kind === kind);
    const imported = ofKind("VirtualMachineImage").map((object) => virtualMachineImage.parse(object));
    const moved = ofKind("VirtualMachineMigration").map((object) => virtualMachineMigration.parse(object));
    const [vm] = ofKind("VirtualMachine").map((object) => virtualMachine.parse(object));
    if (vm === undefined) throw new Error(`${file} holds no VirtualMachine`);
    expect(`${vm.metadata.name}.yaml`).toBe(file);
    for (const { spec } of moved) expect(spec.virtualMachineName).toBe(vm.metadata.name);
    const images = [vm.spec.boot?.kernel, ...vm.spec.disks].flatMap((source) => source?.image ?? []);
    expect([...images, ...imported]).not.toEqual([]);
    for (const image of images) {
      expect(image).toEqual({
        reference: expect.stringMatching(
          /^docker\.io\/typevisor\/(guest-hello|guest-debian|guest-debian-cloud|testguest):dev$/,
        ),
        pullPolicy: "IfNotPresent",
      });
    }
  });
});
