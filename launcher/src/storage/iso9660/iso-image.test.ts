import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, jest } from "@jest/globals";
import fc from "fast-check";
import { buildIso, type IsoFile } from "./iso-image.ts";
import { isoIdentifiers, jolietIdentifiers } from "./names.ts";
import { packRecords, SECTOR } from "./volume.ts";

// Runs isoinfo once a file.
jest.setTimeout(120_000);

let directory: string;
let image: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "iso-"));
  image = join(directory, "image.iso");
});
afterEach(() => rmSync(directory, { recursive: true }));

const file = (name: string, content: string | Uint8Array = `content of ${name}`): IsoFile => ({
  name,
  content: typeof content === "string" ? Buffer.from(content) : content,
});

function isoinfo(...options: string[]): Buffer {
  return execFileSync("isoinfo", ["-i", image, ...options], { stdio: ["ignore", "pipe", "pipe"] });
}

function lines(...options: string[]): string[] {
  return isoinfo(...options)
    .toString()
    .split("\n")
    .filter((line) => line !== "");
}

function write(label: string, files: readonly IsoFile[]): void {
  writeFileSync(image, buildIso(label, files));
}

/** Names by Rock Ridge, as isoinfo finds them. */
const rockRidgeNames = () => lines("-R", "-f").map((line) => line.slice(1));

const long = "a.very-long_key.".repeat(16).slice(0, 253);

describe("an ISO image, read by isoinfo,", () => {
  it("has its label, Joliet and Rock Ridge", () => {
    write("cidata", [file("user-data")]);
    const description = isoinfo("-d").toString();
    expect(description).toContain("Volume id: cidata\n");
    expect(description).toContain("Logical block size is: 2048");
    expect(description).toContain("Joliet with UCS level 3 found");
    expect(description).toContain("Rock Ridge signatures version 1 found");
  });

  it("has each file under its own name, with its content", () => {
    const files = [
      file("user-data"),
      file("meta-data", ""),
      file("UPPER.txt"),
      file(".hidden"),
      file("tls.crt", new Uint8Array(SECTOR).fill(1)),
      file("tls.key", new Uint8Array(3 * SECTOR + 1).fill(2)),
      file("grüße.yaml"),
      file(long),
    ];
    write("conf", files);
    expect(rockRidgeNames().sort()).toEqual(files.map(({ name }) => name).sort());
    for (const { name, content } of files) expect(Buffer.compare(isoinfo("-R", "-x", `/${name}`), content)).toBe(0);
  });

  it("has Joliet names for those who know nothing else", () => {
    write("conf", [file("user-data"), file("Some Name.conf")]);
    expect(lines("-J", "-f").sort()).toEqual(["/Some Name.conf", "/user-data"]);
    expect(isoinfo("-J", "-x", "/user-data").toString()).toBe("content of user-data");
  });

  it("has names of eight and three characters for those who know nothing at all", () => {
    write("conf", [file("user-data"), file("user-data.old"), file("network-config")]);
    expect(lines("-f").sort()).toEqual(["/NETWORK_.;1", "/USER_DAT.;1", "/USER_DAT.OLD;1"]);
    expect(isoinfo("-x", "/USER_DAT.OLD;1").toString()).toBe("content of user-data.old");
  });

  it("takes more files than a sector has records, with names that are continued elsewhere", () => {
    const files = Array.from({ length: 200 }, (_, i) => file(`${String(i).padStart(3, "0")}-${long}`.slice(0, 253)));
    write("many", files);
    expect(rockRidgeNames().sort()).toEqual(files.map(({ name }) => name));
    expect(isoinfo("-R", "-x", `/${files[199]?.name}`).toString()).toBe(`content of ${files[199]?.name}`);
  });

  it("may have no file at all", () => {
    write("none", []);
    expect(rockRidgeNames()).toEqual([]);
  });

  it("gives back names and contents, whatever they are", () => {
    const name = fc.stringMatching(/^[-._a-zA-Z0-9]{1,253}$/).filter((text) => !/^\.\.?$/.test(text));
    const entry = fc.record({ name, content: fc.uint8Array({ maxLength: 5000 }) });
    fc.assert(
      fc.property(fc.uniqueArray(entry, { selector: (each) => each.name, maxLength: 8 }), (files) => {
        write("any", files);
        expect(rockRidgeNames().sort()).toEqual(files.map((each) => each.name).sort());
        for (const each of files) expect(Buffer.compare(isoinfo("-R", "-x", `/${each.name}`), each.content)).toBe(0);
      }),
      { numRuns: 20 },
    );
  });
});

describe("an ISO image", () => {
  it("is the same for the same files in any order", () => {
    const files = [file("a"), file("b"), file("C")];
    expect(buildIso("x", [...files].reverse())).toEqual(buildIso("x", files));
  });

  it("is found by its label, which Joliet has too", () => {
    writeFileSync(image, buildIso("cidata", [file("user-data")]));
    expect(execFileSync("blkid", ["-p", "-o", "export", image]).toString()).toMatch(
      /^LABEL=cidata$[\s\S]*^TYPE=iso9660$/m,
    );
  });

  it("is read by who goes through it from its beginning to its end", () => {
    const files = [
      file("user-data"),
      file("empty", ""),
      ...Array.from({ length: 60 }, (_, i) => file(`${i}-${long}`.slice(0, 253))),
    ];
    writeFileSync(image, buildIso("x", files));
    const listed = execFileSync("bsdtar", ["-tf", image]).toString().split("\n");
    expect(listed.filter((name) => name !== "" && name !== ".").sort()).toEqual(files.map(({ name }) => name).sort());
    expect(execFileSync("bsdtar", ["-xOf", image, files[40]?.name ?? ""]).toString()).toBe(
      `content of ${files[40]?.name}`,
    );
  });

  it("is not made of two files with one name", () => {
    expect(() => buildIso("x", [file("a"), file("a")])).toThrow(RangeError);
  });
});

describe("identifiers", () => {
  it("are told apart by numbers where they would be the same", () => {
    expect(isoIdentifiers(["network-config", "network-config-2", "network.b", "network.c"])).toEqual([
      "NETWORK_.;1",
      "NETWORK1.;1",
      "NETWORK.B;1",
      "NETWORK.C;1",
    ]);
    const names = Array.from({ length: 1200 }, (_, i) => `same-beginning-${i}`);
    expect(new Set(isoIdentifiers(names)).size).toBe(1200);
  });

  it("of Joliet have at most 64 characters and none that it forbids", () => {
    const stem = "x".repeat(100);
    expect(jolietIdentifiers([`${stem}.yaml`, `${stem}y.yaml`, "a:b*c?.txt"])).toEqual([
      `${"x".repeat(59)}.yaml`,
      `${"x".repeat(58)}1.yaml`,
      "a_b_c_.txt",
    ]);
  });
});

it("records do not cross the end of a sector", () => {
  const record = (lengthBytes: number, fill: number) => new Uint8Array(lengthBytes).fill(fill);
  const packed = packRecords([record(SECTOR - 10, 1), record(12, 2), record(4, 3)]);
  expect(packed.length).toBe(2 * SECTOR);
  expect([...packed.subarray(SECTOR - 11, SECTOR)]).toEqual([1, ...new Array<number>(10).fill(0)]);
  expect([...packed.subarray(SECTOR, SECTOR + 17)]).toEqual([
    ...new Array<number>(12).fill(2),
    ...new Array<number>(4).fill(3),
    0,
  ]);
});
