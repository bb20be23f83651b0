import type { AgentErrorCode } from "../../../../launcher/api/agent.ts";

/** A request that is answered with an error. `item` is the index of the item of `want` at fault. */
export class AgentFailure extends Error {
  readonly code: AgentErrorCode;
  readonly item: number | undefined;
  constructor(code: AgentErrorCode, message: string, item?: number) {
    super(message);
    this.name = "AgentFailure";
    this.code = code;
    this.item = item;
  }

  at(item: number): AgentFailure {
    return new AgentFailure(this.code, this.message, item);
  }
}
