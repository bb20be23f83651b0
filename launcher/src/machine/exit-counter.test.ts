import { describe, expect, it } from "@jest/globals";
import { ExitCounter } from "./exit-counter.ts";

describe("the count of exits", () => {
  it("is by port and by kind", () => {
    const counter = new ExitCounter();
    counter.port(0x3f8);
    counter.port(0x3f8);
    counter.port(0x60);
    counter.kind("mmio");
    expect(counter.snapshot()).toEqual({ "io:0x3f8": 2, "io:0x60": 1, mmio: 1 });
  });

  it("stays small whatever ports a guest touches, and loses none", () => {
    const counter = new ExitCounter();
    for (let port = 0; port < 65536; port++) counter.port(port);
    counter.port(0);
    const counts = counter.snapshot();
    expect(Object.keys(counts).length).toBeLessThan(40);
    expect(Object.values(counts).reduce((sum, count) => sum + count)).toBe(65537);
    expect(counts["io:0x0"]).toBe(2);
  });
});
