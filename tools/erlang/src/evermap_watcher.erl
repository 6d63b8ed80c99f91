%% @private
%% Tells subscribers what changes. One process for the node, which does nothing while nobody is subscribed.
%%
%% The mapper touches the registry's file after changes, and the kernel tells this process (inotify). Then it looks at what
%% has changed since it looked last. It looks also from time to time without being told, as a mapper may be killed between a
%% change and the touch, and rests after each look as long as makes looking a small part of its time.
%%
%% While the registry cannot be read, the mapper is asked for the names from time to time. Whatever the source, it is the
%% difference between two pictures that is told; a source that cannot be asked changes nothing.
-module(evermap_watcher).
-behaviour(gen_server).

-export([start_link/0, subscribe/1, unsubscribe/0, info/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% Looks without being told: while the kernel tells, and otherwise.
-define(LOOK_MS, 5000).
-define(LOOK_UNTOLD_MS, 1000).
%% After it found something that was just changing.
-define(LOOK_AGAIN_MS, 2).
%% A look may take a tenth of the time.
-define(REST_FACTOR, 9).
-define(REST_MAX_MS, 1000).
%% As often as the file may be replaced while it is being looked at.
-define(FILES_MAX, 3).
-define(MAPPER_TIMEOUT_MS, 5000).

-type key() :: {Id :: pos_integer(), Creation :: non_neg_integer()} | mapper.
-type known() :: {key(), evermap:info()}.
%% A compiled regular expression is a tuple.
-type pattern() :: all | tuple().

-record(state, {
    subscribers = #{} :: #{pid() => {reference(), pattern()}},
    seen :: evermap_nif:seen() | undefined,
    watch :: evermap_nif:watch() | undefined,
    %% Whether the kernel tells of the registry's file.
    is_told = false :: boolean(),
    slots = #{} :: #{evermap_nif:slot() => {binary(), known()}},
    nodes = #{} :: #{binary() => known()},
    timer :: reference() | undefined,
    asking :: {pid(), reference()} | undefined
}).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

-spec subscribe(evermap:pattern()) -> {ok, [evermap:info()]} | {error, not_started | badarg}.
subscribe(Pattern) ->
    try compile(Pattern) of
        Compiled -> call({subscribe, self(), Compiled}, {error, not_started})
    catch
        error:_ -> {error, badarg}
    end.

-spec unsubscribe() -> ok.
unsubscribe() -> call({unsubscribe, self()}, ok).

-spec info() -> #{subscribers := non_neg_integer(), watching := none | events | looking}.
info() -> call(info, #{subscribers => 0, watching => none}).

call(Request, IfNotStarted) ->
    case whereis(?MODULE) of
        undefined -> IfNotStarted;
        Pid -> gen_server:call(Pid, Request, infinity)
    end.

%% As a regular expression: each character is quoted but the two that mean something.
compile("*") -> all;
compile(<<"*">>) -> all;
compile(Pattern) when is_list(Pattern); is_binary(Pattern) ->
    Parts = [part(C) || <<C>> <= iolist_to_binary(Pattern)],
    {ok, Compiled} = re:compile(["\\A", Parts, "\\z"], [dotall]),
    Compiled.

part($*) -> ".*";
part($?) -> ".";
part(C) -> io_lib:format("\\x{~2.16.0b}", [C]).

matches(_, all) -> true;
matches(Name, Pattern) -> re:run(Name, Pattern, [{capture, none}]) =:= match.

%% ---- The process ----

%% @private
init([]) -> {ok, #state{}}.

%% @private
handle_call({subscribe, Pid, Pattern}, _From, State0) ->
    State1 = forget(Pid, State0),
    State2 =
        case maps:size(State1#state.subscribers) of
            0 -> first_look(State1);
            _ -> look(State1)
        end,
    Subscriber = {erlang:monitor(process, Pid), Pattern},
    State = State2#state{subscribers = maps:put(Pid, Subscriber, State2#state.subscribers)},
    Picture = [Info || {Name, {_, Info}} <- maps:to_list(State#state.nodes), matches(Name, Pattern)],
    {reply, {ok, Picture}, State};
handle_call({unsubscribe, Pid}, _From, State) ->
    {reply, ok, rest_if_alone(forget(Pid, State))};
handle_call(info, _From, #state{subscribers = Subscribers} = State) ->
    Watching =
        case State of
            _ when map_size(Subscribers) =:= 0 -> none;
            #state{is_told = true} -> events;
            _ -> looking
        end,
    {reply, #{subscribers => map_size(Subscribers), watching => Watching}, State}.

%% @private
handle_cast(_, State) -> {noreply, State}.

%% @private
handle_info({select, Watch, undefined, ready_input}, #state{watch = Watch} = State) ->
    ok = nif(watch_drain, [Watch]),
    {noreply, look(State)};
handle_info({timeout, Timer, look}, #state{timer = Timer} = State) ->
    {noreply, look(State#state{timer = undefined})};
handle_info({timeout, Timer, rested}, #state{timer = Timer} = State) ->
    {noreply, await(State#state{timer = undefined})};
handle_info({names, Pid, Names}, #state{asking = {Pid, Monitor}} = State) ->
    erlang:demonitor(Monitor, [flush]),
    {noreply, told_by_mapper(Names, State#state{asking = undefined})};
handle_info({'DOWN', Monitor, process, Pid, _}, #state{asking = {Pid, Monitor}} = State) ->
    {noreply, State#state{asking = undefined}};
handle_info({'DOWN', _Monitor, process, Pid, _}, State) ->
    {noreply, rest_if_alone(forget(Pid, State))};
handle_info(_, State) ->
    {noreply, State}.

forget(Pid, #state{subscribers = Subscribers} = State) ->
    case maps:take(Pid, Subscribers) of
        {{Monitor, _}, Others} ->
            erlang:demonitor(Monitor, [flush]),
            State#state{subscribers = Others};
        error ->
            State
    end.

%% Nobody is told any more: the next subscriber begins with a picture of its own.
rest_if_alone(#state{subscribers = Subscribers} = State) when map_size(Subscribers) > 0 -> State;
rest_if_alone(#state{watch = Watch, timer = Timer, asking = Asking}) ->
    _ = Watch =/= undefined andalso nif(watch_close, [Watch]),
    _ = Timer =/= undefined andalso erlang:cancel_timer(Timer),
    stop_asking(Asking),
    #state{}.

stop_asking(undefined) -> ok;
stop_asking({Pid, Monitor}) ->
    erlang:demonitor(Monitor, [flush]),
    exit(Pid, kill),
    ok.

%% ---- Looking ----

%% The picture that the first subscriber is given must be one: the mapper is waited for, where it has to be asked.
first_look(State0) ->
    State = look(State0),
    case State#state.asking of
        undefined ->
            State;
        {Pid, Monitor} ->
            receive
                {names, Pid, Names} ->
                    erlang:demonitor(Monitor, [flush]),
                    told_by_mapper(Names, State#state{asking = undefined});
                {'DOWN', Monitor, process, Pid, _} ->
                    State#state{asking = undefined}
            end
    end.

look(State) ->
    case evermap_registry:get() of
        {ok, Registry} -> look(Registry, State);
        _ -> ask_mapper(State)
    end.

look(Registry, State0) ->
    Before = erlang:monotonic_time(millisecond),
    {Result, State} = look_at_file(Registry, watched(State0), ?FILES_MAX),
    Took = erlang:monotonic_time(millisecond) - Before,
    case {Result, min(?REST_FACTOR * Took, ?REST_MAX_MS)} of
        {ok, 0} -> await(State);
        {ok, RestMs} -> plan(RestMs, rested, State);
        {busy, RestMs} -> plan(?LOOK_AGAIN_MS + RestMs, look, State);
        {unreadable, _} -> ask_mapper(await(State))
    end.

%% What has happened since the watch was read last is told at once.
await(#state{watch = undefined} = State) ->
    plan(?LOOK_UNTOLD_MS, look, State);
await(#state{watch = Watch, is_told = IsTold} = State) ->
    _ = nif(watch_arm, [Watch]),
    plan(case IsTold of true -> ?LOOK_MS; false -> ?LOOK_UNTOLD_MS end, look, State).

watched(#state{watch = undefined} = State) ->
    case nif(watch_new, []) of
        {ok, Watch} -> State#state{watch = Watch};
        _ -> State
    end;
watched(State) ->
    State.

%% Watches before it looks, so that what changes after the look is told. When there is another file meanwhile that one is
%% to be watched before it is looked at, too.
look_at_file(Registry, #state{watch = Watch} = State0, FilesLeft) ->
    _ = watch_file(Watch, Registry),
    {Result, State} = look_once(Registry, State0),
    case watch_file(Watch, Registry) of
        changed when FilesLeft > 1 -> look_at_file(Registry, State, FilesLeft - 1);
        changed -> {busy, State};
        Watched -> {Result, State#state{is_told = Watched =:= ok}}
    end.

watch_file(undefined, _) -> none;
watch_file(Watch, Registry) -> nif(watch_registry, [Watch, Registry]).

look_once(Registry, #state{seen = undefined} = State) ->
    look_once(Registry, State#state{seen = nif(seen_new, [])});
look_once(Registry, #state{seen = Seen} = State) ->
    case nif(changes, [Registry, Seen]) of
        {Result, true, Changes} -> {Result, told_anew(Changes, State)};
        {Result, false, Changes} -> {Result, told(Changes, State)};
        {error, _, _} -> {unreadable, State#state{seen = undefined, slots = #{}}}
    end.

plan(Ms, What, #state{timer = Timer} = State) ->
    _ = Timer =/= undefined andalso erlang:cancel_timer(Timer),
    State#state{timer = erlang:start_timer(Ms, self(), What)}.

nif(Function, Arguments) -> evermap_registry:nif(Function, Arguments).

%% ---- The mapper, when the registry cannot be read ----

%% Another process asks, as the mapper may be slow or silent.
ask_mapper(#state{asking = undefined} = State) ->
    Watcher = self(),
    Asking = spawn_monitor(fun() ->
        end_in_time(self()),
        Names = erl_epmd:names({127, 0, 0, 1}),
        Watcher ! {names, self(), Names}
    end),
    plan(?LOOK_UNTOLD_MS, look, State#state{asking = Asking});
ask_mapper(State) ->
    plan(?LOOK_UNTOLD_MS, look, State).

end_in_time(Asker) ->
    spawn(fun() ->
        Monitor = erlang:monitor(process, Asker),
        receive
            {'DOWN', Monitor, process, Asker, _} -> ok
        after ?MAPPER_TIMEOUT_MS -> exit(Asker, kill)
        end
    end).

%% The registry, when it can be read again, is believed more.
told_by_mapper({ok, Names}, #state{seen = undefined} = State) ->
    Nodes = maps:from_list([
        {list_to_binary(Name), {mapper, #{name => list_to_binary(Name), port => Port, source => mapper}}}
     || {Name, Port} <- Names
    ]),
    replace(Nodes, State);
told_by_mapper(_, State) ->
    State.

%% ---- Telling ----

told_anew(Changes, State) ->
    Slots = maps:from_list([in_slot(Entry) || Entry <- Changes, tuple_size(Entry) > 2]),
    replace(maps:from_list(maps:values(Slots)), State#state{slots = Slots}).

in_slot(Entry) ->
    Info = evermap_registry:to_info(Entry),
    {element(1, Entry), {element(3, Entry), {{element(2, Entry), element(5, Entry)}, Info}}}.

replace(Nodes, #state{nodes = Before} = State) ->
    Left = [{Name, Known} || {Name, Known} <- maps:to_list(Before), not maps:is_key(Name, Nodes)],
    Gone = lists:foldl(fun({Name, {_, Info}}, S) -> down(Name, Info, S) end, State, Left),
    lists:foldl(fun({Name, Known}, S) -> found(Name, Known, S) end, Gone, maps:to_list(Nodes)).

%% What has left goes first: a name may have come back in another slot.
told(Changes, #state{slots = Slots} = State) ->
    Found = [in_slot(Entry) || Entry <- Changes, tuple_size(Entry) > 2],
    Before = [maps:get(element(1, Change), Slots) || Change <- Changes, maps:is_key(element(1, Change), Slots)],
    Gone = [Slot || {Slot, gone} <- Changes],
    Now = maps:merge(maps:without(Gone, Slots), maps:from_list(Found)),
    Stay = maps:from_list([{Name, true} || {_, {Name, _}} <- Found]),
    Left = lists:foldl(fun(Known, S) -> left(Known, Stay, S) end, State#state{slots = Now}, Before),
    lists:foldl(fun({_, {Name, Known}}, S) -> found(Name, Known, S) end, Left, Found).

%% A name that is somewhere else now is dealt with by found().
left({Name, _}, Stay, State) when is_map_key(Name, Stay) -> State;
left({Name, {Key, _}}, _, #state{nodes = Nodes} = State) ->
    case Nodes of
        #{Name := {Key, Info}} -> down(Name, Info, State);
        _ -> State
    end.

found(Name, Known, #state{nodes = Nodes} = State) ->
    case Nodes of
        #{Name := Before} ->
            case is_same(Before, Known) of
                true -> State#state{nodes = maps:put(Name, best(Before, Known), Nodes)};
                false -> up(Name, Known, down(Name, element(2, Before), State))
            end;
        _ ->
            up(Name, Known, State)
    end.

%% The mapper tells the port alone.
is_same({Key, _}, {Key, _}) when Key =/= mapper -> true;
is_same({Before, #{port := Port}}, {Now, #{port := Port}}) -> Before =:= mapper orelse Now =:= mapper;
is_same(_, _) -> false.

best(Before, {mapper, _}) -> Before;
best(_, Known) -> Known.

up(Name, {_, Info} = Known, #state{nodes = Nodes} = State) ->
    tell(up, Name, Info, State),
    State#state{nodes = maps:put(Name, Known, Nodes)}.

down(Name, Info, #state{nodes = Nodes} = State) ->
    tell(down, Name, Info, State),
    State#state{nodes = maps:remove(Name, Nodes)}.

tell(What, Name, Info, #state{subscribers = Subscribers}) ->
    maps:foreach(
        fun(Pid, {_, Pattern}) ->
            _ = matches(Name, Pattern) andalso (Pid ! {evermap, {What, Name, Info}})
        end,
        Subscribers
    ).
