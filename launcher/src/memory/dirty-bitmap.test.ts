import { expect, it } from "@jest/globals";
import { DirtyBitmap } from "./dirty-bitmap.ts";

it("a dirty bitmap tells who watches it when it comes to count, and when no more", () => {
  const dirty = new DirtyBitmap(1 << 20);
  const told: boolean[] = [];
  const watch = dirty.watch((isOn) => told.push(isOn));
  dirty.enable();
  dirty.disable();
  watch[Symbol.dispose]();
  dirty.enable();
  expect(told).toEqual([true, false]);
});
