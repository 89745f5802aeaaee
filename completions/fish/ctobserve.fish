# SPDX-License-Identifier: GPL-2.0-only
# Completion of ctobserve and ctobserve-lab for fish: each answers itself (ctobserve/commands/completing.py).

function __ctobserve_offer
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    # What PATH has by an absolute name, never what a typed path leads to: nothing may run before Enter.
    set -l program (command -s -- (string replace -r '.*/' '' -- $words[1]))
    string match -q '/*' -- $program; or return
    set -e words[1]
    $program --complete $words "$current" 2>/dev/null | while read -l line
        set -l parts (string split -m 2 \t -- $line)
        switch $parts[1]
            case word
                printf '%s\t%s\n' $parts[2] $parts[3]
            case file
                __fish_complete_path $current
        end
    end
end

complete -c ctobserve -f -a '(__ctobserve_offer)'
complete -c ctobserve-lab -f -a '(__ctobserve_offer)'
