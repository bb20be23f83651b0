/** Links as they are in the repository, made such of the site. */
import { existsSync, statSync } from "node:fs";
import { join, posix } from "node:path";
import { repository, titleOf } from "../markdown.ts";
import { firstPageIn, linkTo, REPOSITORY_URL, sitePathOf } from "./pages.ts";

/** As much of markdown-it's tokens as is needed. */
interface Token {
  readonly type: string;
  readonly children: readonly Token[] | null;
  content: string;
  attrGet(name: string): string | null;
  attrSet(name: string, value: string): void;
}

interface MarkdownIt {
  readonly core: {
    readonly ruler: {
      push(name: string, rule: (state: { readonly tokens: readonly Token[]; readonly env: unknown }) => void): void;
    };
  };
}

/** Has markdown-it rewrite the links of each page; VitePress then looks whether they lead somewhere. */
export function repositoryLinks(markdown: MarkdownIt): void {
  markdown.core.ruler.push("repository-links", ({ tokens, env }) => {
    // Where the file is in the repository; titles are rendered by themselves, of no file.
    const { realPath } = env as { readonly realPath?: string };
    if (realPath === undefined) return;
    const file = posix.relative(repository, realPath);
    for (const { children } of tokens) {
      for (const [index, token] of (children ?? []).entries()) {
        if (token.type === "link_open") rewrite(file, token, children?.[index + 1]);
      }
    }
  });
}

function rewrite(file: string, link: Token, text: Token | undefined): void {
  const target = link.attrGet("href") ?? "";
  link.attrSet("href", siteLink(file, target));
  const page = pageAt(file, target);
  // A page that is called by its file's name has its title here.
  if (page !== undefined && text?.content === posix.basename(page)) text.content = titleOf(page);
}

/** The page (as a file of the repository) that a link of the page `file` leads to, if it is one. */
function pageAt(file: string, target: string): string | undefined {
  const [path = ""] = target.split("#");
  const wanted = posix.join(posix.dirname(file), decodeURIComponent(path)).replace(/\/$/, "");
  if (/^[a-z]+:/.test(target) || path === "") return undefined;
  return sitePathOf(wanted) === undefined ? firstPageIn(wanted) : wanted;
}

/**
 * Where the link `target` of the page `file` (both as in the repository) leads on the site: to a page, to the first page of a
 * folder of pages, or to the repository itself.
 */
export function siteLink(file: string, target: string): string {
  if (/^[a-z]+:|^#|^$/.test(target)) return target;
  const [path = "", anchor] = target.split("#");
  const page = pageAt(file, target);
  if (page !== undefined) return linkTo(page) + (anchor === undefined ? "" : `#${anchor}`);
  const there = posix.join(posix.dirname(file), decodeURIComponent(path));
  // A link that leads nowhere stays as it is, for VitePress to say so.
  if (!existsSync(join(repository, there))) return target;
  return `${REPOSITORY_URL}/${statSync(join(repository, there)).isDirectory() ? "tree" : "blob"}/main/${there}`;
}
