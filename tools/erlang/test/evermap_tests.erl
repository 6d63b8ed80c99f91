%% The application in this node, against a mapper of the tests' own.
-module(evermap_tests).

-include_lib("eunit/include/eunit.hrl").

-define(PATIENCE_MS, 30000).
%% Less than what it takes to look without being told.
-define(TOLD_MS, 2000).
-define(KEY, {evermap_registry, registry}).

all_test_() ->
    {setup, fun() -> evermap_test_mapper:is_there() end, fun(_) -> ok end, fun
        (true) ->
            [
                {Name, {setup, fun begin_with/0, fun end_with/1, fun(Mapper) -> {timeout, 120, fun() -> Test(Mapper) end} end}}
             || {Name, Test} <- tests()
            ];
        (false) ->
            []
    end}.

tests() ->
    [
        {"lookups", fun lookups/1},
        {"lists", fun lists/1},
        {"lookups need no mapper", fun lookups_without_mapper/1},
        {"subscription", fun subscription/1},
        {"patterns", fun patterns/1},
        {"one subscription", fun one_subscription/1},
        {"nodes that come back at once", fun comes_back/1},
        {"many nodes", fun many/1},
        {"file is removed", fun removed/1},
        {"file is damaged", fun damaged/1},
        {"subscriber ends", fun subscriber_ends/1},
        {"module is replaced", fun replaced/1},
        {"information", fun information/1}
    ].

begin_with() ->
    Mapper = evermap_test_mapper:start(),
    use(evermap_test_mapper:registry(Mapper)),
    ok = application:start(evermap),
    Mapper.

end_with(Mapper) ->
    ok = application:stop(evermap),
    evermap_test_mapper:stop(Mapper),
    flush().

use(Registry) ->
    _ = application:load(evermap),
    persistent_term:erase(?KEY),
    application:set_env(evermap, registry, Registry).

lookups(Mapper) ->
    Socket = evermap_test_mapper:register(Mapper, "web", 5001),
    {ok, Info} = evermap:lookup("web"),
    ?assertMatch(
        #{name := <<"web">>, port := 5001, source := registry, type := normal, state := live, versions := {5, 6}, extra := <<>>},
        Info
    ),
    ?assertEqual({ok, Info}, evermap:lookup(web)),
    ?assertEqual({ok, Info}, evermap:lookup(<<"web">>, {127, 0, 0, 1})),
    Age = erlang:system_time() - maps:get(since, Info),
    ?assert(Age >= 0 andalso Age < 60_000_000_000),
    ?assertEqual({ok, {127, 0, 0, 1}, 5001, 6}, evermap_epmd:address_please("web", "localhost", inet)),
    ?assertEqual({port, 5001, 6}, evermap_epmd:port_please("web", {127, 0, 0, 1})),
    ?assertEqual({port, 5001, 6}, evermap_epmd:port_please(web, "localhost", 1000)),
    evermap_test_mapper:unregister(Socket),
    evermap_test_mapper:wait_for(fun() -> evermap_registry:lookup("web") =:= not_found end),
    %% Whoever cannot be reached at all is not found, and nothing waits.
    ?assertEqual({error, not_found}, evermap:lookup("web", {127, 0, 0, 1})),
    ?assertEqual({error, not_found}, evermap:lookup("web", "no.such.host.invalid")),
    ?assertNot(evermap_registry:is_own_address({192, 0, 2, 1})),
    {ok, Interfaces} = inet:getifaddrs(),
    [?assert(evermap_registry:is_own_address(A)) || {_, Options} <- Interfaces, {addr, A} <- Options, is_plain(A)].

%% Without a scope, which an address of a node does not have either.
is_plain({A, _, _, _, _, _, _, _}) when A band 16#ffc0 =:= 16#fe80 -> false;
is_plain(_) -> true.

lists(Mapper) ->
    ?assertEqual({ok, []}, evermap:names()),
    Count = 1200,
    Sockets = [evermap_test_mapper:register(Mapper, ["node", integer_to_list(I)], I) || I <- lists:seq(1, Count)],
    {ok, Names} = evermap:names(),
    ?assertEqual(lists:sort([{list_to_binary(["node", integer_to_list(I)]), I} || I <- lists:seq(1, Count)]), lists:sort(Names)),
    {ok, Strings} = evermap_epmd:names(localhost),
    ?assert(lists:member({"node7", 7}, Strings)),
    ?assertEqual(Count, length(Strings)),
    {ok, Entries} = evermap_registry:entries(),
    ?assertEqual(Count, length(Entries)),
    [evermap_test_mapper:unregister(Socket) || Socket <- Sockets],
    evermap_test_mapper:wait_for(fun() -> evermap:names() =:= {ok, []} end).

lookups_without_mapper(#{pid := Pid} = Mapper) ->
    Socket = evermap_test_mapper:register(Mapper, "web", 5001),
    {ok, Info} = evermap:lookup("web"),
    evermap_test_mapper:signal(Pid, "STOP"),
    ?assertEqual({ok, Info}, evermap:lookup("web")),
    ?assertEqual({ok, [{"web", 5001}]}, evermap_epmd:names("localhost")),
    ?assertEqual({port, 5001, 6}, evermap_epmd:port_please("web", {127, 0, 0, 1})),
    evermap_test_mapper:signal(Pid, "CONT"),
    evermap_test_mapper:unregister(Socket).

subscription(Mapper) ->
    A = evermap_test_mapper:register(Mapper, "a", 1),
    {ok, [#{name := <<"a">>, port := 1} = InfoA]} = evermap:subscribe(),
    ?assertMatch(#{subscribers := 1, watching := events}, evermap:info()),
    B = evermap_test_mapper:register(Mapper, "b", 2),
    told(Mapper),
    InfoB = receive_event(up, <<"b">>),
    ?assertEqual({ok, InfoB}, evermap:lookup("b")),
    evermap_test_mapper:unregister(A),
    evermap_test_mapper:wait_for(fun() -> evermap_registry:lookup("a") =:= not_found end),
    told(Mapper),
    ?assertEqual(InfoA, receive_event(down, <<"a">>)),
    ok = evermap:unsubscribe(),
    ?assertMatch(#{subscribers := 0, watching := none}, evermap:info()),
    evermap_test_mapper:unregister(B),
    evermap_test_mapper:wait_for(fun() -> evermap_registry:lookup("b") =:= not_found end),
    told(Mapper),
    ?assertEqual(none, receive X -> X after 200 -> none end).

patterns(Mapper) ->
    Sockets = [evermap_test_mapper:register(Mapper, Name, 1) || Name <- ["web1", "web22", "api1", "w.b1"]],
    Matching = fun(Pattern) ->
        {ok, Infos} = evermap:subscribe(Pattern),
        lists:sort([maps:get(name, Info) || Info <- Infos])
    end,
    ?assertEqual([<<"web1">>, <<"web22">>], Matching("web*")),
    ?assertEqual([<<"w.b1">>], Matching("w.b?")),
    ?assertEqual([<<"api1">>, <<"w.b1">>, <<"web1">>], Matching(<<"???1">>)),
    ?assertEqual([<<"api1">>], Matching("api1")),
    ?assertEqual([], Matching("api")),
    ?assertEqual(4, length(Matching(<<"*">>))),
    ?assertEqual({error, badarg}, evermap:subscribe(17)),
    [evermap_test_mapper:unregister(Socket) || Socket <- Sockets],
    evermap:unsubscribe().

one_subscription(Mapper) ->
    {ok, []} = evermap:subscribe("a*"),
    {ok, []} = evermap:subscribe("b*"),
    ?assertMatch(#{subscribers := 1}, evermap:info()),
    A = evermap_test_mapper:register(Mapper, "a", 1),
    B = evermap_test_mapper:register(Mapper, "b", 2),
    told(Mapper),
    ?assertMatch(#{port := 2}, receive_event(up, <<"b">>)),
    ?assertEqual(none, receive X -> X after 100 -> none end),
    [evermap_test_mapper:unregister(Socket) || Socket <- [A, B]],
    evermap:unsubscribe().

comes_back(Mapper) ->
    First = evermap_test_mapper:register(Mapper, "web", 1),
    {ok, [#{id := Id}]} = evermap:subscribe(),
    %% Long enough that both changes are seen at once.
    ok = sys:suspend(evermap_watcher),
    evermap_test_mapper:unregister(First),
    evermap_test_mapper:wait_for(fun() -> evermap_registry:lookup("web") =:= not_found end),
    Second = evermap_test_mapper:register(Mapper, "web", 2),
    told(Mapper),
    ok = sys:resume(evermap_watcher),
    ?assertMatch({evermap, {down, <<"web">>, #{port := 1, id := Id}}}, receive_any()),
    ?assertMatch({evermap, {up, <<"web">>, #{port := 2}}}, receive_any()),
    evermap_test_mapper:unregister(Second),
    evermap:unsubscribe().

%% The picture and the events add up to what is registered.
many(Mapper) ->
    rand:seed(exsss, {1, 2, 3}),
    {ok, Picture} = evermap:subscribe(),
    Run = fun Run(0, Nodes) -> Nodes; Run(Left, Nodes) ->
        Name = "n" ++ integer_to_list(rand:uniform(40)),
        Changed =
            case Nodes of
                #{Name := Socket} ->
                    evermap_test_mapper:unregister(Socket),
                    maps:remove(Name, Nodes);
                _ ->
                    evermap_test_mapper:wait_for(fun() -> evermap_registry:lookup(Name) =:= not_found end),
                    Nodes#{Name => evermap_test_mapper:register(Mapper, Name, Left)}
            end,
        _ = Left rem 7 =:= 0 andalso told(Mapper),
        Run(Left - 1, Changed)
    end,
    Nodes = Run(400, #{}),
    evermap_test_mapper:wait_for(fun() ->
        {ok, Names} = evermap:names(),
        length(Names) =:= maps:size(Nodes)
    end),
    told(Mapper),
    evermap_test_mapper:wait_for(fun() -> names_of(evermap_watcher_nodes()) =:= lists:sort([list_to_binary(N) || N <- maps:keys(Nodes)]) end),
    Seen = add_up(maps:from_list([{maps:get(name, Info), Info} || Info <- Picture])),
    {ok, Entries} = evermap_registry:entries(),
    ?assertEqual(
        lists:sort([{element(3, E), element(2, E)} || E <- Entries]),
        lists:sort([{Name, maps:get(id, Info)} || {Name, Info} <- maps:to_list(Seen)])
    ),
    maps:foreach(fun(_, Socket) -> evermap_test_mapper:unregister(Socket) end, Nodes),
    evermap:unsubscribe().

evermap_watcher_nodes() -> element(7, sys:get_state(evermap_watcher)).
names_of(Nodes) -> lists:sort(maps:keys(Nodes)).

add_up(Nodes) ->
    receive
        {evermap, {up, Name, Info}} ->
            ?assertNot(maps:is_key(Name, Nodes)),
            add_up(Nodes#{Name => Info});
        {evermap, {down, Name, #{id := Id}}} ->
            ?assertMatch(#{Name := #{id := Id}}, Nodes),
            add_up(maps:remove(Name, Nodes))
    after 0 -> Nodes
    end.

removed(Mapper) ->
    A = evermap_test_mapper:register(Mapper, "a", 1),
    {ok, [_]} = evermap:subscribe(),
    ok = file:delete(evermap_test_mapper:registry(Mapper)),
    %% The mapper puts it back by itself.
    evermap_test_mapper:wait_for(fun() -> element(1, evermap_registry:lookup("a")) =:= ok end),
    B = evermap_test_mapper:register(Mapper, "b", 2),
    told(Mapper),
    _ = receive_event(up, <<"b">>),
    evermap_test_mapper:unregister(A),
    evermap_test_mapper:wait_for(fun() -> evermap_registry:lookup("a") =:= not_found end),
    told(Mapper),
    _ = receive_event(down, <<"a">>),
    evermap_test_mapper:unregister(B),
    evermap:unsubscribe().

%% A copy of the registry, as its own could not be damaged without ending the mapper.
damaged(Mapper) ->
    A = evermap_test_mapper:register(Mapper, "a", 1),
    Copy = evermap_test_mapper:registry(Mapper) ++ ".copy",
    {ok, Bytes} = file:read_file(evermap_test_mapper:registry(Mapper)),
    ok = file:write_file(Copy, Bytes),
    _ = os:cmd("chmod 644 " ++ Copy),
    use(Copy),
    ?assertMatch({ok, _}, evermap_registry:lookup("a")),
    {ok, [_]} = evermap:subscribe(),
    rand:seed(exsss, {4, 5, 6}),
    [damage(Copy, Bytes, I) || I <- lists:seq(1, 60)],
    ok = file:write_file(Copy, <<>>),
    ?assertMatch({error, _, _}, evermap_registry:lookup("a")),
    ?assertMatch(#{registry := #{error := damaged}}, evermap:info()),
    evermap:unsubscribe(),
    evermap_test_mapper:unregister(A).

damage(Copy, Bytes, Round) ->
    {ok, File} = file:open(Copy, [read, write, raw]),
    ok = file:pwrite(File, [{rand:uniform(byte_size(Bytes)) - 1, rand:bytes(rand:uniform(64))} || _ <- lists:seq(1, 20)]),
    {ok, _} = file:position(File, rand:uniform(byte_size(Bytes))),
    _ = Round rem 3 =:= 0 andalso file:truncate(File),
    ok = file:close(File),
    _ = evermap_registry:lookup("a"),
    _ = evermap_registry:entries(),
    _ = evermap_registry:names(),
    evermap_watcher ! {timeout, none, look},
    _ = Round rem 5 =:= 0 andalso file:write_file(Copy, Bytes),
    _ = evermap_registry:facts().

subscriber_ends(Mapper) ->
    {Pid, Monitor} = spawn_monitor(fun() -> {ok, _} = evermap:subscribe() end),
    receive {'DOWN', Monitor, process, Pid, normal} -> ok end,
    evermap_test_mapper:wait_for(fun() -> maps:get(subscribers, evermap:info()) =:= 0 end),
    _ = Mapper.

%% What was opened before goes on to be of use.
replaced(Mapper) ->
    A = evermap_test_mapper:register(Mapper, "a", 1),
    {ok, _} = evermap:subscribe(),
    {ok, Info} = evermap:lookup("a"),
    {module, evermap_nif} = code:load_file(evermap_nif),
    ?assertEqual({ok, Info}, evermap:lookup("a")),
    true = code:soft_purge(evermap_nif),
    ?assertEqual({ok, Info}, evermap:lookup("a")),
    evermap_test_mapper:unregister(A),
    evermap_test_mapper:wait_for(fun() -> evermap_registry:lookup("a") =:= not_found end),
    told(Mapper),
    _ = receive_event(down, <<"a">>),
    evermap:unsubscribe().

information(Mapper) ->
    Path = list_to_binary(evermap_test_mapper:registry(Mapper)),
    Port = evermap_test_mapper:port(Mapper),
    #{pid := Pid} = Mapper,
    ?assertMatch(
        #{registry := #{path := Path, mapper_port := Port, mapper_process := Pid, layout := 3, hits := 0}, subscribers := 0},
        evermap:info()
    ),
    use("/nonexistent/registry"),
    ?assertMatch(#{registry := #{error := no_registry, text := _}}, evermap:info()),
    use(Path).

told(Mapper) -> evermap_test_mapper:touch(Mapper).

receive_event(What, Name) ->
    receive
        {evermap, {What, Name, Info}} -> Info
    after ?TOLD_MS -> error({not_told, What, Name, process_info(self(), messages)})
    end.

receive_any() ->
    receive
        Message -> Message
    after ?PATIENCE_MS -> error(not_told)
    end.

flush() ->
    receive
        {evermap, _} -> flush()
    after 0 -> ok
    end.
