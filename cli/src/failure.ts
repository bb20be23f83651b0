import { ApiError, messageOf, TransportError } from "../../operator/src/runtime/errors.ts";
import { CliError, type ExitCode, exitCodes } from "./exit-codes.ts";

/** What to tell the person about something thrown, and how to end. */
export function explain(thrown: unknown): { readonly message: string; readonly exitCode: ExitCode } {
  if (thrown instanceof CliError) {
    return { message: thrown.message, exitCode: thrown.exitCode };
  }
  if (thrown instanceof ApiError) {
    return { message: apiMessage(thrown), exitCode: codeOf(thrown) };
  }
  if (thrown instanceof TransportError) {
    return {
      message: `the API server does not answer (${thrown.message}); check --context and the network`,
      exitCode: exitCodes.unreachable,
    };
  }
  return { message: messageOf(thrown), exitCode: exitCodes.failed };
}

function apiMessage(error: ApiError): string {
  const said = error.status.message ?? error.message;
  if (error.statusCode === 401) {
    return `the API server does not know you (${said}); log in again, or choose another --context`;
  }
  if (error.isForbidden) {
    return `you lack a right: ${said}`;
  }
  if (error.isNotFound && error.status.reason === undefined) {
    return `${said.trim()}: the cluster has no typevisor.io/v1alpha1; is Typevisor installed? kubectl vm doctor tells`;
  }
  return said;
}

function codeOf(error: ApiError): ExitCode {
  if (error.statusCode === 401 || error.isForbidden) {
    return exitCodes.forbidden;
  }
  return error.isNotFound ? exitCodes.notFound : exitCodes.failed;
}
