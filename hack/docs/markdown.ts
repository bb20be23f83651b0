import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";

export const repository = join(import.meta.dirname, "../..");
const LEFT_OUT = new Set(["node_modules", "dist", ".git"]);

/** All Markdown files of the repository, as paths in it. */
export function markdownFiles(folder = repository): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return LEFT_OUT.has(entry.name) ? [] : markdownFiles(path);
    return entry.name.endsWith(".md") ? [relative(repository, path)] : [];
  });
}

export function readPage(file: string): string {
  return readFileSync(join(repository, file), "utf8");
}

/** The page's title: its first heading. */
export function titleOf(file: string): string {
  const [, title] = /^# (.+)$/m.exec(readPage(file)) ?? [];
  if (title === undefined) throw new Error(`${file} has no title`);
  return title;
}

/** A fenced block of a page. */
export interface Block {
  /** The word behind the fence, "" without one. */
  readonly language: string;
  readonly text: string;
  /** Line of its first line, counted from 1. */
  readonly line: number;
}

export function blocksOf(page: string): Block[] {
  return [...page.matchAll(/^( *)```(\w*)\n([\s\S]*?)^\1```$/gm)].map((match) => {
    const [, , language = "", text = ""] = match;
    return { language, text, line: page.slice(0, match.index).split("\n").length + 1 };
  });
}

/** The anchor that GitHub gives a heading (its text as Markdown has it), and that the site gives it, too. */
export function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
    .replaceAll(" ", "-");
}
