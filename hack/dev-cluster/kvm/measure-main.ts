// Prints the speed of /dev/kvm as JSON. A process of its own, so that a guest that hangs can be killed.
import { measureKvm } from "./measure.ts";

console.log(JSON.stringify({ mips: measureKvm() }));
