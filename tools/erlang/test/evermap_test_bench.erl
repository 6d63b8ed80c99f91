%% What a call costs in this node, in microseconds: medians of rounds in which the two ways take turns.
-module(evermap_test_bench).

-export([calls/2, poll/1]).

-define(ROUNDS, 15).
-define(HOST, {127, 0, 0, 1}).

%% [{What, Ours, ErlEpmds}]
calls(Name, Times) ->
    [
        {lookup, compare(fun() -> {port, _, _} = evermap_epmd:port_please(Name, ?HOST) end, fun() -> {port, _, _} = erl_epmd:port_please(Name, ?HOST) end, Times)},
        {info, compare(fun() -> {ok, _} = evermap:lookup(Name) end, fun() -> {port, _, _} = erl_epmd:port_please(Name, ?HOST) end, Times)},
        {names, compare(fun() -> {ok, _} = evermap_epmd:names(?HOST) end, fun() -> {ok, _} = erl_epmd:names(?HOST) end, max(1, Times div 10))}
    ].

compare(Ours, Other, Times) ->
    Rounds = [{round(Ours, Times), round(Other, Times)} || _ <- lists:seq(1, ?ROUNDS)],
    {median([A || {A, _} <- Rounds]), median([B || {_, B} <- Rounds])}.

round(Call, Times) ->
    {Microseconds, _} = timer:tc(fun() -> [Call() || _ <- lists:seq(1, Times)], ok end),
    Microseconds / Times.

median(Values) -> lists:nth(length(Values) div 2 + 1, lists:sort(Values)).

%% Asks for the names every so many milliseconds, for ever.
poll(Milliseconds) ->
    spawn(fun() -> poll_on(Milliseconds) end),
    ok.

poll_on(Milliseconds) ->
    {ok, _} = erl_epmd:names(?HOST),
    timer:sleep(Milliseconds),
    poll_on(Milliseconds).
