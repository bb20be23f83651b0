import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "@jest/globals";
import { anchorOf, markdownFiles, repository } from "./markdown.ts";

/** Anchors as GitHub makes them from headings. */
function anchorsOf(page: string): Set<string> {
  const headings = readFileSync(page, "utf8").match(/^#+ .*$/gm) ?? [];
  return new Set(headings.map((heading) => anchorOf(heading.replace(/^#+ /, ""))));
}

/** Links that lead nowhere; those to other sites are not followed. */
function brokenLinks(page: string): string[] {
  const text = readFileSync(page, "utf8").replaceAll(/^```[\s\S]*?^```/gm, "");
  const links = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = ""]) => target);
  return links.filter((link) => {
    if (/^[a-z]+:/.test(link)) return false;
    const [file = "", anchor] = link.split("#");
    const target = file === "" ? page : join(dirname(page), decodeURIComponent(file));
    if (!existsSync(target)) return true;
    return anchor !== undefined && statSync(target).isFile() && !anchorsOf(target).has(anchor);
  });
}

describe("the documentation", () => {
  it.each(markdownFiles())("%s has no link that leads nowhere", (page) => {
    expect(brokenLinks(join(repository, page))).toEqual([]);
  });

  it("is reached from the README, page by page", () => {
    const seen = new Set<string>();
    const queue = [join(repository, "README.md")];
    for (let page = queue.pop(); page !== undefined; page = queue.pop()) {
      if (seen.has(page)) continue;
      seen.add(page);
      for (const [, target = ""] of readFileSync(page, "utf8").matchAll(/\]\(([^)\s#]+)/g)) {
        const path = join(dirname(page), target);
        if (!existsSync(path)) continue;
        if (statSync(path).isDirectory())
          queue.push(
            ...readdirSync(path)
              .filter((name) => name.endsWith(".md"))
              .map((name) => join(path, name)),
          );
        else if (path.endsWith(".md")) queue.push(path);
      }
    }
    const docs = markdownFiles().filter((file) => file.startsWith("docs/"));
    expect(docs.filter((file) => !seen.has(join(repository, file)))).toEqual([]);
  });
});
