# fish completion of epmd, epmdctl, epmd-bench, epmd-exporter and use-evermap. See README.md beside it.

function __evermap_options
    $argv --help 2>/dev/null | string replace -rf '^  (?:-[a-zA-Z],)?(--[a-z][a-z-]*).*' '$1'
end

function __evermap_subcommands
    $argv[1] --help 2>/dev/null | sed -n '/^Subcommands:/,$s/^  \([a-z][a-z-]*\).*/\1/p'
end

function __evermap_nodes
    epmdctl --json list 2>/dev/null | string replace -rf '^ *"name": "(.*)",?$' '$1'
end

# The subcommand on the command line, or nothing.
function __evermap_subcommand
    for word in (commandline -opc)[2..]
        if contains -- $word (__evermap_subcommands $argv[1])
            echo $word
            return
        end
    end
    return 1
end

for program in epmdctl epmd-bench
    complete -c $program -f
    complete -c $program -n "not __evermap_subcommand $program >/dev/null" -a "(__evermap_subcommands $program)"
    complete -c $program -n 'string match -q -- "-*" (commandline -ct)' -a "(__evermap_options $program; __evermap_options $program (__evermap_subcommand $program))"
end
complete -c epmdctl -n 'contains -- "$(__evermap_subcommand epmdctl)" lookup doctor forget' -a '(__evermap_nodes)'
complete -c epmdctl -n 'test "$(__evermap_subcommand epmdctl)" = names' -a '(__fish_print_hostnames)'
complete -c epmdctl -n 'test "$(__evermap_subcommand epmdctl)" = upgrade' -F
complete -c epmdctl -l interval -x
complete -c epmdctl -l timeout -x
complete -c epmd-exporter -f
complete -c epmd-exporter -n 'string match -q -- "-*" (commandline -ct)' -a '(__evermap_options epmd-exporter)'
for option in stock ours report
    complete -c epmd-bench -l $option -r -F
end
for program in epmdctl epmd-exporter
    complete -c $program -l registry -r -F
    complete -c $program -l port -x
end

function __evermap_epmd_options
    epmd -help 2>/dev/null | string replace -rf '^  (-[a-z_]+(?:, -[a-z_]+)*).*' '$1' | string split ', '
end
complete -c epmd -f
complete -c epmd -a '(__evermap_epmd_options)'
complete -c epmd -o loop -x -a 'auto io_uring epoll'
complete -c epmd -o registry -r -F
complete -c epmd -o config -r -F
complete -c epmd -o pidfile -r -F
for option in port address allow access reserve packet_timeout orphan_grace name_wait expect idle_exit delay_accept delay_write workers capacity
    complete -c epmd -o $option -x
end
complete -c epmd -o stop -x -a '(__evermap_nodes)'

complete -c use-evermap -f -a '(__fish_complete_directories)'
complete -c use-evermap -l undo -d 'Put the release\'s own back'
