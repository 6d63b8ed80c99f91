# bash completion of epmd, epmdctl, epmd-bench, epmd-exporter and use-evermap. See README.md beside it.

# Options and subcommands as a program's --help lists them.
_evermap_options() {
  "$@" --help 2>/dev/null | sed -n 's/^  *\(-[a-zA-Z],\)\{0,1\}\(--[a-z][a-z-]*\).*/\2/p'
}
_evermap_subcommands() {
  "$1" --help 2>/dev/null | sed -n '/^Subcommands:/,$s/^  \([a-z][a-z-]*\).*/\1/p'
}
_evermap_nodes() {
  epmdctl --json list 2>/dev/null | sed -n 's/^ *"name": "\(.*\)",\{0,1\}$/\1/p'
}

_evermap_complete() {
  local word=${COMP_WORDS[COMP_CWORD]}
  local IFS=$'\n'  # what compgen -W divides its words by
  COMPREPLY=($(compgen "$@" -- "$word"))
}

_evermap_epmd() {
  case ${COMP_WORDS[COMP_CWORD - 1]} in
    -loop) _evermap_complete -W $'auto\nio_uring\nepoll' ;;
    -registry | -pidfile | -config) _evermap_complete -f ;;
    -stop) _evermap_complete -W "$(_evermap_nodes)" ;;
    -port | -address | -allow | -access | -reserve | -packet_timeout | -orphan_grace | -name_wait | -expect | -idle_exit | -delay_accept | -delay_write | -workers | -capacity) ;;
    *) _evermap_complete -W "$(epmd -help 2>/dev/null | grep -o '^  -[a-z_]*\(, -[a-z_]*\)*' | tr -d ' ' | tr ',' '\n')" ;;
  esac
}

_evermap_tool() {
  local program=$1 subcommand= word i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    case $word in
      --port | --registry | --listen | --host | --interval | --timeout) i=$((i + 1)) ;;
      -*) ;;
      *) subcommand=$word && break ;;
    esac
  done
  case ${COMP_WORDS[COMP_CWORD - 1]} in
    --registry | --stock | --ours | --report) _evermap_complete -f && return ;;
    --port | --listen | --host | --interval | --timeout) return ;;
  esac
  if [[ ${COMP_WORDS[COMP_CWORD]} == -* ]]; then
    _evermap_complete -W "$(
      _evermap_options "$program"
      [[ -z $subcommand ]] || _evermap_options "$program" "$subcommand"
    )"
  elif [[ -z $subcommand ]]; then
    _evermap_complete -W "$(_evermap_subcommands "$program")"
  elif [[ $program == *epmdctl ]]; then
    case $subcommand in
      lookup | doctor | forget) _evermap_complete -W "$(_evermap_nodes)" ;;
      names) _evermap_complete -A hostname ;;
      upgrade) _evermap_complete -f ;;
    esac
  fi
}

_evermap_use() {
  if [[ ${COMP_WORDS[COMP_CWORD]} == -* ]]; then
    _evermap_complete -W $'--undo\n--help'
  else
    _evermap_complete -d
  fi
}

complete -F _evermap_epmd epmd
complete -F _evermap_tool epmdctl epmd-bench epmd-exporter
complete -o filenames -F _evermap_use use-evermap
