import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { markdownFiles } from "../markdown.ts";
import { deadLinks } from "./dead-links.ts";
import { siteLink } from "./links.ts";
import { allPages, linkTo, sidebar, sitePathOf } from "./pages.ts";

const generator = join(import.meta.dirname, "node_modules/vitepress/bin/vitepress.js");
/** Seconds on a machine with nothing else to do. */
const BUILD_TIMEOUT_MS = 10 * 60_000;

describe("the documentation's site", () => {
  let folder: string;

  beforeAll(() => {
    if (!existsSync(generator)) throw new Error("VitePress is missing; run hack/setup unit first");
    folder = mkdtempSync(join(tmpdir(), "typevisor-site-"));
    execFileSync(process.execPath, [generator, "build", "--outDir", folder], {
      cwd: import.meta.dirname,
      timeout: BUILD_TIMEOUT_MS,
      stdio: ["ignore", "pipe", "pipe"],
    });
  }, BUILD_TIMEOUT_MS);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it("has every page of the repository but the README, which is GitHub's first page", () => {
    expect(markdownFiles().filter((file) => sitePathOf(file) === undefined)).toEqual(["README.md"]);
  });

  it("has every page in its navigation, once", () => {
    const links = sidebar().flatMap(({ items }) => items.map(({ link }) => link));
    expect(links.toSorted()).toEqual(allPages().map(linkTo).toSorted());
  });

  it("is made of all pages, with links and anchors that lead somewhere", () => {
    const missing = allPages()
      .map((file) => sitePathOf(file)?.replace(/\.md$/, ".html") ?? file)
      .filter((page) => !existsSync(join(folder, page)));
    expect(missing).toEqual([]);
    expect(deadLinks(folder)).toEqual([]);
  });

  it("gives headings the anchors that they have on GitHub", () => {
    expect(readFileSync(join(folder, "benchmarks.html"), "utf8")).toContain(
      'id="from-kubectl-apply-to-a-running-machine"',
    );
  });

  it("calls pages by their titles where the text of a link is their file's name", () => {
    expect(readFileSync(join(folder, "disks.html"), "utf8")).toMatch(
      /href="\/import\.html"[^>]*>Importing disks into claims</,
    );
  });

  it("searches by itself: the index of all words is part of it", () => {
    const chunks = readFileSync(join(folder, "hashmap.json"), "utf8");
    expect(Object.keys(JSON.parse(chunks))).toContain("troubleshooting.md");
    expect(execFileSync("grep", ["-rl", "GuestTripleFault", join(folder, "assets")], { encoding: "utf8" })).toMatch(
      /localSearchIndex/,
    );
  });
});

describe("a link of a page", () => {
  it.each([
    ["docs/disks.md", "import.md", "/import.md"],
    ["docs/disks.md", "migration.md#to-other-claims", "/migration.md#to-other-claims"],
    ["docs/adr/0001-one-event-loop.md", "../vsock.md", "/vsock.md"],
    ["docs/upgrade.md", "../charts/typevisor/README.md", "/chart.md"],
    ["CONTRIBUTING.md", "docs/benchmarks.md", "/benchmarks.md"],
    ["docs/architecture.md", "adr/", "/adr/0001-one-event-loop.md"],
    [
      "docs/import.md",
      "../examples/imported.yaml",
      "https://github.com/typevisor/typevisor/blob/main/examples/imported.yaml",
    ],
    ["docs/comparison.md", "../README.md", "https://github.com/typevisor/typevisor/blob/main/README.md"],
    ["docs/disks.md", "#claims", "#claims"],
    ["docs/disks.md", "https://example.com/a.md", "https://example.com/a.md"],
    ["docs/disks.md", "nowhere.txt", "nowhere.txt"],
  ])("of %s to %s leads to %s", (file, target, link) => {
    expect(siteLink(file, target)).toBe(link);
  });
});

describe("links that lead nowhere", () => {
  it("are those to pages, anchors and files that are not there", () => {
    const folder = mkdtempSync(join(tmpdir(), "typevisor-links-"));
    try {
      writeFileSync(
        join(folder, "index.html"),
        `<h1 id="top"></h1><a class="x" href="/b.html#there"></a><a href="/b.html#away"></a><a href="/c.html"></a>
         <a href="#top"></a><a href="#bottom"></a><a href="/"></a><a href="/logo.svg"></a><a href="/none.svg"></a>
         <a href="https://example.com/c.html"></a>`,
      );
      writeFileSync(join(folder, "b.html"), `<p id="there"></p><a href="/#top"></a><a href="/index.html#bottom"></a>`);
      writeFileSync(join(folder, "logo.svg"), "");
      expect(deadLinks(folder).toSorted()).toEqual([
        "b.html: /index.html#bottom",
        "index.html: #bottom",
        "index.html: /b.html#away",
        "index.html: /c.html",
        "index.html: /none.svg",
      ]);
      writeFileSync(
        join(folder, "b.html"),
        `<p id="there"></p><a href="/docs/#top"></a><a href="/docs/index.html#bottom"></a>`,
      );
      writeFileSync(
        join(folder, "index.html"),
        `<h1 id="top"></h1><a href="/docs/b.html#there"></a><a href="/b.html"></a>`,
      );
      expect(deadLinks(folder, "/docs/").toSorted()).toEqual([
        "b.html: /docs/index.html#bottom",
        "index.html: /b.html",
      ]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
