import { CliError, exitCodes } from "../exit-codes.ts";

/** Both ask `kubectl-vm __complete`, whose last line is a directive: ":0" offers files, ":4" does not. */
const scripts: Readonly<Record<string, string>> = {
  bash: `# bash completion for kubectl-vm
_kubectl_vm() {
  local line current=\${COMP_WORDS[COMP_CWORD]} directive=4
  COMPREPLY=()
  while IFS= read -r line; do
    case $line in
      :*) directive=\${line#:} ;;
      *) COMPREPLY+=("\${line%%$'\\t'*}") ;;
    esac
  done < <(kubectl-vm __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD-1}" "$current" 2>/dev/null)
  if [[ $directive == 0 ]]; then
    compopt -o default
  fi
}
complete -F _kubectl_vm kubectl-vm
`,
  zsh: `#compdef kubectl-vm
_kubectl_vm() {
  local line directive=4
  local -a candidates
  while IFS= read -r line; do
    case $line in
      :*) directive=\${line#:} ;;
      *) candidates+=("\${\${line//:/\\\\:}/$'\\t'/:}") ;;
    esac
  done < <(kubectl-vm __complete -- "\${(@)words[2,CURRENT-1]}" "\${words[CURRENT]}" 2>/dev/null)
  if [[ $directive == 0 ]]; then
    _files
  else
    _describe 'kubectl-vm' candidates
  fi
}
compdef _kubectl_vm kubectl-vm
`,
};

/** The script for a shell. */
export function completionScript(shell: string): string {
  const script = Object.hasOwn(scripts, shell) ? scripts[shell] : undefined;
  if (script === undefined) {
    throw new CliError(
      `there is completion for ${Object.keys(scripts).join(" and ")}, not for ${shell}`,
      exitCodes.usage,
    );
  }
  return script;
}
