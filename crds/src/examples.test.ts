import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "@jest/globals";
import { parse } from "yaml";
import { virtualMachine } from "./virtualmachine.ts";

const examples = join(import.meta.dirname, "../../examples");
const files = readdirSync(examples).filter((file) => file.endsWith(".yaml"));

describe("the examples", () => {
  it.each(files)("%s is a VirtualMachine, named as its file, of images that hack/images builds", (file) => {
    const vm = virtualMachine.parse(parse(readFileSync(join(examples, file), "utf8")));
    expect(`${vm.metadata.name}.yaml`).toBe(file);
    const images = [vm.spec.boot?.kernel, ...vm.spec.disks].flatMap((source) => source?.image ?? []);
    expect(images).not.toEqual([]);
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
