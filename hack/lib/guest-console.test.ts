import { type Duplex, duplexPair, PassThrough } from "node:stream";
import { describe, expect, it } from "@jest/globals";
import { ConsoleEnded, ConsoleTimeout, ConsoleUser } from "./guest-console.ts";

/** A console and the guest's end of it. */
function pair() {
  const [mine, guests] = duplexPair();
  guests.setEncoding("utf8");
  return { user: new ConsoleUser(mine, mine), guest: guests };
}

/** Echoes a line, and answers it with `output`; gives all that was shown. */
function shell(guest: Duplex, output: string): () => string {
  let text = "";
  const show = (part: string) => {
    text += part;
    guest.write(part);
  };
  guest.on("data", (line: string) => {
    const mark = /echo (\S+)''-begin/.exec(line)?.[1];
    show(line.replace("\n", "\r\n"));
    show(`${mark}-begin\r\n${output}${mark}-end\r\n# `);
  });
  return () => text;
}

describe("a user at a console", () => {
  it("sees what comes in pieces, and reads on after it", async () => {
    const { user, guest } = pair();
    guest.write("log");
    const seen = user.see(/login: (\w+)\n/);
    guest.write("in: root\nlogin: again\n");
    expect((await seen)[1]).toBe("root");
    expect((await user.see(/login: (\w+)\n/))[1]).toBe("again");
  });

  it("takes the output of a command, not the echo of what was typed", async () => {
    const { user, guest } = pair();
    const shown = shell(guest, "42\r\nmore\r\n");
    expect(await user.shell("echo 42; echo more")).toBe("42\nmore");
    expect(shown()).toContain("42\r\nmore");
  });

  it("does not take what an earlier user was answered for its own", async () => {
    const first = pair();
    const shown = shell(first.guest, "old\r\n");
    expect(await first.user.shell("cat file")).toBe("old");
    const { user, guest } = pair();
    guest.write(shown());
    shell(guest, "new\r\n");
    expect(await user.shell("cat file")).toBe("new");
  });

  it("says what stood there when the expected did not come", async () => {
    const { user, guest } = pair();
    guest.write("something else");
    const error = await user.see("hello", 50).catch((problem) => problem);
    expect(error).toBeInstanceOf(ConsoleTimeout);
    expect(error.message).toContain("something else");
  });

  it("does not wait for a guest that has gone", async () => {
    const stream = new PassThrough();
    const user = new ConsoleUser(stream, stream);
    const seen = user.see("never", 60_000);
    stream.destroy();
    await expect(seen).rejects.toBeInstanceOf(ConsoleEnded);
  });
});
