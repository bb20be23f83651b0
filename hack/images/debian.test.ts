import { describe, expect, it } from "@jest/globals";
import { debianKeyring, debianSources, parseIndexTargets, sourceLines } from "./debian-mirror.ts";
import { parseStanzas } from "./debian-packages.ts";

describe("Debian's mirror", () => {
  it("is told from other repositories by its label", () => {
    const output =
      "Debian\thttp://mirror.example/debian/\nSomething\thttp://other.example/\n\thttp://unknown.example/\n";
    expect(parseIndexTargets(output)).toEqual([
      { label: "Debian", uri: "http://mirror.example/debian/" },
      { label: "Something", uri: "http://other.example/" },
    ]);
  });

  it("gives any suite, with updates, and security updates where a mirror of them is known", () => {
    const line = (rest: string) => `deb [signed-by=${debianKeyring}] ${rest} main`;
    expect(sourceLines("trixie", "http://m/d", "http://m/s")).toEqual([
      line("http://m/d trixie"),
      line("http://m/d trixie-updates"),
      line("http://m/s trixie-security"),
    ]);
    expect(sourceLines("trixie", "http://m/d")).toHaveLength(2);
    expect(sourceLines("sid", "http://m/d", "http://m/s")).toEqual([line("http://m/d sid")]);
  });

  it("can be named by hand", async () => {
    const sources = await debianSources("trixie", { TYPEVISOR_DEBIAN_MIRROR: "http://given.example/debian" });
    expect(sources[0]).toContain(" http://given.example/debian trixie ");
  });
});

describe("a package record", () => {
  it("tells name, version and the first of each dependency's alternatives", () => {
    const text =
      "Package: a\nVersion: 1:2-3\nDepends: b (>= 1), c:any | d, e\nDescription: x\n more\n\nPackage: f\nVersion: 4\n";
    expect(parseStanzas(text)).toEqual([
      { name: "a", version: "1:2-3", depends: ["b", "c", "e"] },
      { name: "f", version: "4", depends: [] },
    ]);
  });
});
