import { Duplex } from "node:stream";

/** For tests: the far end of an attachment, `reads` what it is let, and `types`. */
export class Terminal extends Duplex {
  text = "";
  stuck = false;
  #resume: () => void = () => {};
  constructor() {
    super({ writableHighWaterMark: 1024 });
  }
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString("latin1");
    if (this.stuck) this.#resume = done;
    else done();
  }
  type(text: string): void {
    this.push(Buffer.from(text));
  }
  unstick(): void {
    this.stuck = false;
    this.#resume();
  }
}
