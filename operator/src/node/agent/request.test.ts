import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { AgentFailure } from "./agent-failure.ts";
import { parseRequest } from "./request.ts";

const podUid = "0f8c1c1a-7c51-4c0e-9f7b-0d9a3a6b2c11";
const block = { kind: "block", path: "/dev/data", readOnly: false, direct: true };

function refusal(request: unknown): AgentFailure {
  try {
    parseRequest(typeof request === "string" ? request : JSON.stringify(request));
  } catch (error) {
    if (error instanceof AgentFailure) return error;
    throw error;
  }
  throw new Error("accepted");
}

describe("a request to the agent", () => {
  it("is read", () => {
    const want = [{ kind: "kvm" }, { kind: "userfaultfd" }, block, { kind: "attachment", podUid }];
    expect(parseRequest(JSON.stringify({ version: 1, want }))).toEqual({ want });
    expect(parseRequest('{"version":1,"want":[]}')).toEqual({ want: [] });
    const offer = { podUid, fds: [20, 21] };
    expect(parseRequest(JSON.stringify({ version: 1, offer }))).toEqual({ offer });
  });

  it.each<[what: string, request: unknown, code: string, item: number | undefined, says: RegExp]>([
    ["no JSON", "kvm please", "BadRequest", undefined, /not JSON/],
    ["no object", [], "BadRequest", undefined, /not an object/],
    ["another version", { version: 2, want: [], more: 1 }, "UnsupportedVersion", undefined, /version 1 only/],
    ["an unknown field", { version: 1, want: [], as: "root" }, "BadRequest", undefined, /unknown field/],
    [
      "an offer beside a want",
      { version: 1, want: [], offer: { podUid, fds: [3] } },
      "BadRequest",
      undefined,
      /unknown field/,
    ],
    ["an offer of nothing", { version: 1, offer: { podUid, fds: [] } }, "BadRequest", undefined, /fds must be 1 to 2/],
    [
      "an offer of much",
      { version: 1, offer: { podUid, fds: [3, 4, 5] } },
      "BadRequest",
      undefined,
      /fds must be 1 to 2/,
    ],
    ["an offer of no number", { version: 1, offer: { podUid, fds: [-1] } }, "BadRequest", undefined, /fds must be/],
    [
      "an offer to nobody",
      { version: 1, offer: { podUid: "../x", fds: [3] } },
      "BadRequest",
      undefined,
      /podUid must be/,
    ],
    [
      "an attachment of nobody",
      { version: 1, want: [{ kind: "attachment", podUid: 7 }] },
      "BadRequest",
      0,
      /podUid must be/,
    ],
    ["no list", { version: 1, want: "kvm" }, "BadRequest", undefined, /at most 16/],
    ["too much", { version: 1, want: Array(17).fill({ kind: "kvm" }) }, "BadRequest", undefined, /at most 16/],
    ["an unknown kind", { version: 1, want: [{ kind: "kvm" }, { kind: "disk" }] }, "BadRequest", 1, /kind must be/],
    ["an item that is none", { version: 1, want: [null] }, "BadRequest", 0, /not an object/],
    [
      "an unknown restriction",
      { version: 1, want: [{ kind: "kvm", readOnly: true }] },
      "BadRequest",
      0,
      /unknown field/,
    ],
    ["a relative path", { version: 1, want: [{ ...block, path: "dev/sda" }] }, "BadRequest", 0, /absolute path/],
    ["a NUL in a path", { version: 1, want: [{ ...block, path: "/dev/a\0b" }] }, "BadRequest", 0, /absolute path/],
    ["an endless path", { version: 1, want: [{ ...block, path: `/${"a".repeat(5000)}` }] }, "BadRequest", 0, /path/],
    ["an odd claim", { version: 1, want: [{ ...block, exclusive: 1 }] }, "BadRequest", 0, /true or false/],
    ["no access mode", { version: 1, want: [{ ...block, readOnly: undefined }] }, "BadRequest", 0, /true or false/],
  ])("with %s is refused", (_what, request, code, item, says) => {
    const failure = refusal(request);
    expect([failure.code, failure.item]).toEqual([code, item]);
    expect(failure.message).toMatch(says);
  });

  it("with anything else is refused in the same way", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (line) => expect(refusal(line)).toBeInstanceOf(AgentFailure)),
    );
    fc.assert(
      fc.property(fc.array(fc.jsonValue(), { minLength: 1 }), (want) => {
        expect(refusal({ version: 1, want })).toBeInstanceOf(AgentFailure);
      }),
    );
  });
});
