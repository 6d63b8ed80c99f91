%% A subscriber of a node: what it has been told adds up to the names that it thinks to be registered, and whether what it
%% was told made sense.
-module(evermap_test_view).

-export([start/0, start/1, names/0, events/0, mistakes/0, since/1]).

start() -> start("*").

%% Registered by the name of this module.
start(Pattern) ->
    Caller = self(),
    Pid = spawn(fun() ->
        register(?MODULE, self()),
        {ok, Picture} = evermap:subscribe(Pattern),
        Caller ! {self(), begun},
        loop(maps:from_list([{maps:get(name, Info), Info} || Info <- Picture]), [], [])
    end),
    receive {Pid, begun} -> ok end.

loop(Nodes, Events, Mistakes) ->
    receive
        {evermap, {up, Name, Info} = Event} ->
            Now = erlang:system_time(microsecond),
            loop(Nodes#{Name => Info}, [{Now, Event} | Events], [{known, Event} || is_map_key(Name, Nodes)] ++ Mistakes);
        {evermap, {down, Name, Info} = Event} ->
            Now = erlang:system_time(microsecond),
            Port = maps:get(port, Info),
            IsKnown = maps:get(port, maps:get(Name, Nodes, #{}), none) =:= Port,
            loop(maps:remove(Name, Nodes), [{Now, Event} | Events], [{unknown, Event} || not IsKnown] ++ Mistakes);
        {ask, From, Question} ->
            From ! {?MODULE, Question(Nodes, Events, Mistakes)},
            loop(Nodes, Events, Mistakes)
    end.

ask(Question) ->
    ?MODULE ! {ask, self(), Question},
    receive {?MODULE, Answer} -> Answer end.

%% Names and ports, sorted.
names() -> ask(fun(Nodes, _, _) -> lists:sort([{Name, Port} || {Name, #{port := Port}} <- maps:to_list(Nodes)]) end).

%% How many there were.
events() -> ask(fun(_, Events, _) -> length(Events) end).

mistakes() -> ask(fun(_, _, Mistakes) -> Mistakes end).

%% When the last event of a name came, in microseconds since 1970, and which it was.
since(Name) ->
    ask(fun(_, Events, _) ->
        case [{At, What} || {At, {What, N, _}} <- Events, N =:= Name] of
            [Last | _] -> Last;
            [] -> none
        end
    end).
