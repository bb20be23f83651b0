import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/**
 * Links of the HTML pages in a folder that lead to no file or to no anchor in it, each with its page. `base` is the path that the
 * folder is served at.
 */
export function deadLinks(folder: string, base = "/"): string[] {
  const pages = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".html"));
  const anchors = new Map(pages.map((page) => [page, idsOf(join(folder, page))]));
  const isAlive = (link: string, page: string) => {
    const there = inFolder(link, base);
    return there !== undefined && (!isDead(there, page, anchors) || isFile(folder, there));
  };
  return pages.flatMap((page) =>
    linksOf(join(folder, page))
      .filter((link) => !isAlive(link, page))
      .map((link) => `${page}: ${link}`),
  );
}

/** The link with the folder as its root; undefined where it leads out of it. */
function inFolder(link: string, base: string): string | undefined {
  if (!link.startsWith("/")) return link;
  return link.startsWith(base) ? `/${link.slice(base.length)}` : undefined;
}

function idsOf(file: string): Set<string> {
  return new Set([...readFileSync(file, "utf8").matchAll(/ id="([^"]+)"/g)].map(([, id = ""]) => id));
}

/** Links within the site; those to elsewhere are not followed. */
function linksOf(file: string): string[] {
  const links = [...readFileSync(file, "utf8").matchAll(/<a [^>]*?href="([^"]*)"/g)].map(([, link = ""]) => link);
  return links.map((link) => link.replaceAll("&amp;", "&")).filter((link) => !/^[a-z]+:/.test(link));
}

function isDead(link: string, from: string, anchors: ReadonlyMap<string, ReadonlySet<string>>): boolean {
  const [path = "", anchor] = link.split("#").map(decodeURIComponent);
  const page = path === "" ? from : path.replace(/^\//, "").replace(/(^|\/)$/, "$1index.html");
  const ids = anchors.get(page);
  return ids === undefined || (anchor !== undefined && anchor !== "" && !ids.has(anchor));
}

/** What is no page: a script, a picture. */
function isFile(folder: string, link: string): boolean {
  return !link.includes("#") && !link.endsWith(".html") && link !== "/" && existsSync(join(folder, link));
}
