import { afterEach, expect, it } from "@jest/globals";
import { check } from "../sys/errors.ts";
import { OwnedFd, setNonBlocking } from "../sys/fd.ts";
import { readPacket, writePacket } from "../sys/frame-io.ts";
import { libc } from "../sys/libc.ts";
import { until } from "../testing/until.ts";
import { AnsweringTap } from "./answering-tap.ts";

const AF_UNIX = 1;
const SOCK_DGRAM = 2;

let open = new DisposableStack();
afterEach(() => {
  open[Symbol.dispose]();
  open = new DisposableStack();
});

/** A TAP that is a pair of datagram sockets: one message is one frame. */
function setUp(answer: (frame: Uint8Array) => Uint8Array | null) {
  const fds = new Int32Array(new ArrayBuffer(8));
  check("socketpair", libc().socketpair(AF_UNIX, SOCK_DGRAM, 0, fds));
  const [near, far] = [new OwnedFd(fds[0] ?? -1), open.use(new OwnedFd(fds[1] ?? -1))];
  for (const { fd } of [near, far]) setNonBlocking(fd);
  const tap = open.use(new AnsweringTap(near, answer));
  const target = new Uint8Array(new ArrayBuffer(4096));
  const received = () => {
    const lengthBytes = readPacket(far.fd, target);
    return lengthBytes < 0 ? null : [...target.subarray(0, lengthBytes)];
  };
  return { tap, near, received, send: (...bytes: number[]) => writePacket(far.fd, Uint8Array.from(bytes)) };
}

it("a guest on vhost-net is answered frame for frame, and told what nobody asked for", async () => {
  const { tap, received, send } = setUp((frame) => (frame[0] === 9 ? null : frame.map((byte) => byte + 1)));
  for (let i = 0; i < 40; i++) send(i, 1);
  const answers: (readonly number[])[] = [];
  await until(() => {
    for (let answer = received(); answer; answer = received()) answers.push(answer);
    return answers.length === 39;
  });
  expect(answers.some(([first]) => first === 10)).toBe(false);
  expect(answers.at(-1)).toEqual([40, 2]);
  tap.send(Uint8Array.of(7));
  expect(received()).toEqual([7]);
});

it("a frame that is longer than any of these is no question", async () => {
  const seen: number[] = [];
  const { received, send } = setUp((frame) => {
    seen.push(frame.length);
    return frame.subarray(0, 1);
  });
  send(...new Array<number>(1515).fill(1));
  send(...new Array<number>(1514).fill(2));
  await until(() => seen.length === 1);
  expect([seen, received()]).toEqual([[1514], [2]]);
});

it("a guest that does not read its answers loses them, and no more", async () => {
  let asked = 0;
  const { near, tap } = setUp(() => {
    asked++;
    return new Uint8Array(1000);
  });
  for (let i = 0; i < 2000; i++) tap.send(new Uint8Array(1000));
  expect([near.isOpen, asked]).toEqual([true, 0]);
  tap[Symbol.dispose]();
  expect(near.isOpen).toBe(false);
});
