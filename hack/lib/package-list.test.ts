import { describe, expect, it } from "@jest/globals";
import { missingPackages, parsePackageList } from "./package-list.ts";

describe("Debian packages that tests need", () => {
  it("are listed one a line, with comments", () => {
    expect(parsePackageList("# for ACPI\nacpica-tools\n\n gcc \n")).toEqual(["acpica-tools", "gcc"]);
  });

  it("are missing unless dpkg has them installed, not just configured", () => {
    const dpkg = "gcc installed\nqemu-utils config-files\n";
    expect(missingPackages(["gcc", "qemu-utils", "acpica-tools"], dpkg)).toEqual(["qemu-utils", "acpica-tools"]);
  });
});
