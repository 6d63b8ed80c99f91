#!/usr/bin/env python3
"""Measures what clients notice of an upgrade, with our mapper and with the stock one, and draws it.

usage: bench/figures/upgrade_figure.py BUILD STOCK     BUILD: build directory with the bench; STOCK: the stock epmd
       bench/figures/upgrade_figure.py                 draws again what was measured last

The measurement goes to bench/results/upgrade.json, the picture to docs/upgrade.svg.
"""

import json
import math
import os
import sys

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..'))
DATA = os.path.join(ROOT, 'bench', 'results', 'upgrade.json')
PICTURE = os.path.join(ROOT, 'docs', 'upgrade.svg')
NODES = 500
RATE = 2000
SECONDS = 5
AFTER_S = 1
# What is slow later than this after the beginning of an upgrade is so for other reasons.
REPLACED_MS = 100

WIDTH, PANEL, LEFT, RIGHT, GAP = 760, 150, 60, 16, 58
MS_MIN, MS_MAX = 0.1, 1000.0
GOOD, BAD, MUTED, LINE = '#1f6feb', '#c62828', '#5b6675', '#d5dae1'


def measure(build, stock):
    os.environ['EPMD'] = ours = os.path.join(build, 'daemon', 'epmd')
    sys.path.insert(0, os.path.join(ROOT, 'tests'))
    import subprocess

    import harness

    def bench(mapper, command):
        done = subprocess.run(
            [os.path.join(build, 'bench', 'epmd-bench'), 'restart', '--port', str(mapper.port), '--nodes', str(NODES), '--rate',
             str(RATE), '--poisson', '--seconds', str(SECONDS), '--after', str(AFTER_S), '--json', '--quiet', '--command', f'{{ {command}; }} >&2'],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        result = json.loads(done.stdout)
        return {**{key: result[key] for key in ('version', 'date', 'machine', 'nodes')}, 'restart': result['load']['restart'],
                'timeline': result['load']['timeline']}

    with harness.Mapper(keeper=True) as mapper:
        result = {'ours': bench(mapper, f'{build}/tools/epmdctl --registry {mapper.registry} upgrade {ours}')}
    with harness.Mapper(stock=True) as mapper:
        epmd = f'{stock} -port {mapper.port} -address 127.0.0.1'
        try:
            result['stock'] = bench(mapper, f'kill {mapper.pid}; sleep 0.1; {epmd} -daemon -relaxed_command_check')
        finally:
            subprocess.run([*epmd.split(), '-kill'], stdout=subprocess.DEVNULL, check=False)
    with open(DATA, 'w') as file:
        json.dump(result, file)
        file.write('\n')


def y_of(ms):
    share = math.log(max(ms, MS_MIN) / MS_MIN) / math.log(MS_MAX / MS_MIN)
    return PANEL * (1 - min(share, 1.0))


def panel(top, title, run):
    timeline = run['timeline']
    step_ms = timeline['interval_ms']
    whole_ms = 1000.0 * SECONDS
    at = lambda ms: LEFT + (WIDTH - LEFT - RIGHT) * ms / whole_ms
    failed = sum(timeline['wrong'])
    begin_ms = 1000 * run['restart']['begin_s']
    around = timeline['latency_max_us'][int(begin_ms / step_ms):int((begin_ms + REPLACED_MS) / step_ms) + 1]
    said = f'{failed} of {failed + sum(timeline["correct"])} lookups failed'
    if not failed:
        said += f'; the longest of the upgrade took {max(around) / 1000:.0f} ms'
    parts = [f'<text x="{LEFT}" y="{top - 10}" font-weight="600">{title}</text>',
             f'<text x="{WIDTH - RIGHT}" y="{top - 10}" text-anchor="end" fill="{BAD if failed else MUTED}">{said}</text>']
    for ms, label in ((0.1, '0.1 ms'), (1, '1 ms'), (10, '10 ms'), (100, '100 ms'), (1000, '1 s')):
        y = top + y_of(ms)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{LINE}"/>'
                     f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="{MUTED}">{label}</text>')
    x = at(begin_ms)
    parts.append(f'<path d="M{x:.1f} {top}V{top + PANEL}" stroke="{MUTED}" stroke-dasharray="4 3"/>')
    width = max(at(step_ms) - at(0) - 1, 1.5)
    for number, (correct, wrong, latency_us) in enumerate(zip(timeline['correct'], timeline['wrong'], timeline['latency_max_us'])):
        x = at(number * step_ms)
        if number * step_ms >= whole_ms:
            break
        if wrong:
            height = PANEL * wrong / (wrong + correct)
            parts.append(f'<rect x="{x:.1f}" y="{top + PANEL - height:.1f}" width="{width:.1f}" height="{height:.1f}" '
                         f'fill="{BAD}" fill-opacity="0.55"/>')
        if correct:
            parts.append(f'<circle cx="{x + width / 2:.1f}" cy="{top + y_of(latency_us / 1000):.1f}" r="2" fill="{GOOD}"/>')
    return '\n'.join(parts)


def draw(result):
    height = 2 * (PANEL + GAP) + 44
    first, second = 34, 34 + PANEL + GAP
    axis = second + PANEL
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12" '
             'fill="#1a2027">', f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
             panel(first, 'Evermap, upgraded', result['ours']), panel(second, 'The stock epmd, restarted', result['stock'])]
    for second_number in range(SECONDS + 1):
        x = LEFT + (WIDTH - LEFT - RIGHT) * second_number / SECONDS
        parts.append(f'<text x="{x:.1f}" y="{axis + 18}" text-anchor="middle" fill="{MUTED}">{second_number} s</text>')
    interval = result['ours']['timeline']['interval_ms']
    parts.append(f'<circle cx="{LEFT + 4}" cy="{axis + 40}" r="3" fill="{GOOD}"/><text x="{LEFT + 12}" y="{axis + 44}">longest '
                 f'latency in {interval:.0f} ms</text><rect x="{LEFT + 190}" y="{axis + 35}" width="10" height="10" fill="{BAD}" '
                 f'fill-opacity="0.55"/><text x="{LEFT + 206}" y="{axis + 44}">share of lookups that failed</text>'
                 f'<path d="M{LEFT + 395} {axis + 40}h16" stroke="{MUTED}" stroke-dasharray="4 3"/><text x="{LEFT + 417}" '
                 f'y="{axis + 44}">the mapper is replaced</text>')
    with open(PICTURE, 'w') as file:
        file.write('\n'.join(parts) + '\n</svg>\n')


if len(sys.argv) == 3:
    measure(os.path.realpath(sys.argv[1]), sys.argv[2])
elif len(sys.argv) != 1:
    sys.exit(__doc__)
with open(DATA) as data:
    draw(json.load(data))
