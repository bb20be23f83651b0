import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { BRANCH, GitRepository } from "./git-repository.ts";

const git = async (...args: string[]) => (await promisify(execFile)("git", args)).stdout.trim();

describe("a repository that tools clone", () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "typevisor-clone-"));
  });
  afterEach(() => rm(directory, { recursive: true }));

  it("has what the newest commit has, and nothing of the one before", async () => {
    await using repository = await GitRepository.open();
    const first = await repository.commit("one", { web: { kind: "A" }, queue: { kind: "B" } });
    const clone = join(directory, "clone");
    await git("clone", "--quiet", `--branch=${BRANCH}`, repository.url, clone);
    expect(await git("-C", clone, "rev-parse", "HEAD")).toBe(first);
    expect((await readdir(clone)).sort()).toEqual([".git", "queue.yaml", "web.yaml"]);

    const second = await repository.commit("two", { web: { kind: "C" } });
    expect(await git("ls-remote", repository.url, `refs/heads/${BRANCH}`)).toBe(`${second}\trefs/heads/${BRANCH}`);
    await git("-C", clone, "pull", "--quiet");
    expect((await readdir(clone)).sort()).toEqual([".git", "web.yaml"]);
    expect(JSON.parse(await readFile(join(clone, "web.yaml"), "utf8"))).toEqual({ kind: "C" });
  });

  it("is the only one, and cannot be written to from outside", async () => {
    await using repository = await GitRepository.open();
    await repository.commit("one", { web: {} });
    await expect(git("ls-remote", repository.url.replace("shop", "other"))).rejects.toThrow(/not found/);
    const clone = join(directory, "clone");
    await git("clone", "--quiet", repository.url, clone);
    await expect(git("-C", clone, "push", "--quiet", "origin", `HEAD:refs/heads/other`)).rejects.toThrow(/403/);
  });
});
