/**
 * For tests of what a machine does in a limited time: its clock runs `factor` times slower until this is disposed, so
 * that a busy computer is quick enough. Timers are not slowed.
 */
export function slowClock(factor: number): Disposable {
  const real = performance.now.bind(performance);
  const start = real();
  performance.now = () => start + (real() - start) / factor;
  return {
    [Symbol.dispose]: () => {
      performance.now = real;
    },
  };
}
