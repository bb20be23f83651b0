import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Links of the HTML pages in a folder that lead to no file or to no anchor in it, each with its page. */
export function deadLinks(folder: string): string[] {
  const pages = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".html"));
  const anchors = new Map(pages.map((page) => [page, idsOf(join(folder, page))]));
  return pages.flatMap((page) =>
    linksOf(join(folder, page))
      .filter((link) => isDead(link, page, anchors) && !isFile(folder, link))
      .map((link) => `${page}: ${link}`),
  );
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
