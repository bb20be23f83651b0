import type { OwnedFd } from "../../../../launcher/src/sys/fd.ts";
import { AgentFailure } from "./agent-failure.ts";

/** What one holder offers to one pod. */
export interface Offer {
  /** UIDs of pods. */
  readonly from: string;
  readonly to: string;
  /** Descriptors that are the caller's. Throws AgentFailure. */
  open(): readonly OwnedFd[];
}

/** What holders offer on this node: each as long as its connection is open. */
export class Offers {
  /** By the UID of the pod that offers. */
  readonly #offers = new Map<string, Offer[]>();

  /** Until it is disposed. A pod can offer again before its earlier connection is closed: the last one counts. */
  add(offer: Offer): Disposable {
    const ofPod = this.#offers.get(offer.from) ?? [];
    ofPod.push(offer);
    this.#offers.set(offer.from, ofPod);
    return { [Symbol.dispose]: () => this.#remove(offer) };
  }

  /** What pod `from` offers to pod `to`. Who is not meant learns no more than that there is nothing. Throws AgentFailure. */
  take(from: string, to: string): readonly OwnedFd[] {
    const offer = this.#offers.get(from)?.findLast((each) => each.to === to);
    if (!offer) throw new AgentFailure("NotOffered", `pod ${from} offers nothing to this pod on this node`);
    return offer.open();
  }

  #remove(offer: Offer): void {
    const rest = (this.#offers.get(offer.from) ?? []).filter((each) => each !== offer);
    if (rest.length > 0) this.#offers.set(offer.from, rest);
    else this.#offers.delete(offer.from);
  }
}
