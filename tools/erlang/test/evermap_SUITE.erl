%% Nodes of their own that use the module for kernel, and the application, as releases do.
%%
%% Needs a mapper (evermap_test_mapper.erl); without it all is skipped.
-module(evermap_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([
    interactive/1, embedded/1, without_registry/1, unknown_layout/1, fixed_port/1, distribution_again/1,
    told_of_nodes/1, mapper_is_killed/1, other_mapper_takes_over/1
]).
%% Called in nodes.
-export([keep/1]).

-define(PATIENCE_MS, 60000).

suite() -> [{timetrap, {minutes, 5}}].

all() ->
    [
        interactive,
        embedded,
        without_registry,
        unknown_layout,
        fixed_port,
        distribution_again,
        told_of_nodes,
        mapper_is_killed,
        other_mapper_takes_over
    ].

init_per_suite(Config) ->
    case evermap_test_mapper:is_there() of
        true -> Config;
        false -> {skip, "EPMD in the environment does not name a mapper"}
    end.

end_per_suite(_) -> ok.

init_per_testcase(mapper_is_killed, Config) -> [{mapper, evermap_test_mapper:start(#{keeper => true})} | Config];
init_per_testcase(_, Config) -> [{mapper, evermap_test_mapper:start()} | Config].

end_per_testcase(_, Config) -> evermap_test_mapper:stop(?config(mapper, Config)).

%% ---- Cases ----

interactive(Config) -> find_each_other(Config, []).

%% A release's boot script, in which kernel starts before evermap is loaded or anything else could be.
embedded(Config) ->
    find_each_other(Config, make_boot(Config) ++ ["-mode", "embedded"]).

find_each_other(Config, Arguments) ->
    {A, NodeA} = start(Config, a, Arguments),
    {B, NodeB} = start(Config, b, Arguments),
    ?assertEqual(pong, call(A, net_adm, ping, [NodeB])),
    ?assertEqual([NodeB], call(A, erlang, nodes, [])),
    ?assertEqual([NodeA], call(B, erlang, nodes, [])),
    #{registry := #{hits := Hits}} = call(A, evermap, info, []),
    ?assert(Hits >= 1),
    {ok, Names} = call(A, net_adm, names, []),
    ?assertEqual(lists:sort([name(a), name(b)]), lists:sort([Name || {Name, _} <- Names])),
    ?assertEqual([NodeB], call(A, evermap, nodes, [])),
    ?assertEqual(erl_epmd, call(A, erlang, hd, [[N || N <- call(A, erlang, registered, []), N =:= erl_epmd]])),
    stop(A),
    stop(B).

%% The stock way, and one line.
without_registry(Config) ->
    Other = filename:join(evermap_test_mapper:directory(?config(mapper, Config)), "none"),
    ?assertEqual(1, count("no registry there", said_by_node(Config, Other))),
    {A, _} = start_at(Config, a, Other, []),
    {B, NodeB} = start_at(Config, b, Other, []),
    ?assertEqual(pong, call(A, net_adm, ping, [NodeB])),
    ?assertMatch(#{registry := #{error := no_registry}}, call(A, evermap, info, [])),
    {ok, Names} = call(A, evermap, names, []),
    ?assertEqual(2, length(Names)),
    %% What subscribers are told is what the mapper says when it is asked.
    ok = call(A, application, start, [evermap]),
    {ok, Picture} = call(A, evermap, subscribe, []),
    ?assertEqual(2, length(Picture)),
    stop(B),
    stop(A).

unknown_layout(Config) ->
    Mapper = ?config(mapper, Config),
    Copy = evermap_test_mapper:registry(Mapper) ++ ".copy",
    {ok, <<Magic:8/binary, _Version:32, Rest/binary>>} = file:read_file(evermap_test_mapper:registry(Mapper)),
    ok = file:write_file(Copy, <<Magic/binary, 4711:32/little, Rest/binary>>),
    _ = os:cmd("chmod 644 " ++ Copy),
    ?assertEqual(1, count("layout version 4711", said_by_node(Config, Copy))),
    {A, _} = start_at(Config, a, Copy, []),
    {B, NodeB} = start_at(Config, b, Copy, []),
    ?assertEqual(pong, call(A, net_adm, ping, [NodeB])),
    stop(B),
    stop(A).

%% A port for all nodes goes before what the registry says.
fixed_port(Config) ->
    {A, NodeA} = start(Config, a, []),
    {ok, #{port := Port}} = call(A, evermap, lookup, [name(a)]),
    {B, _} = start(Config, b, [fixed_port_flag(), integer_to_list(Port), "-dist_listen", "false"]),
    ?assertMatch({port, Port, _}, call(B, evermap_epmd, port_please, ["whatever", {127, 0, 0, 1}])),
    ?assertEqual(pong, call(B, net_adm, ping, [NodeA])),
    ?assertMatch(#{registry := #{hits := 0}}, call(B, evermap, info, [])),
    stop(B),
    stop(A).

distribution_again(Config) ->
    {A, NodeA} = start(Config, a, []),
    {B, NodeB} = start(Config, b, []),
    Name = list_to_atom(name(c)),
    %% Only what was started so can be stopped: a node that begins without distribution.
    {C, _} = start(Config, none, []),
    [
        begin
            {ok, _} = call(C, net_kernel, start, [[Name, shortnames]]),
            true = call(C, erlang, set_cookie, [call(A, erlang, get_cookie, [])]),
            ?assertEqual(pong, call(C, net_adm, ping, [NodeA])),
            evermap_test_mapper:wait_for(fun() -> call(B, evermap, lookup, [Name]) =/= {error, not_found} end),
            ok = call(C, net_kernel, stop, []),
            evermap_test_mapper:wait_for(fun() -> call(B, evermap, lookup, [Name]) =:= {error, not_found} end)
        end
     || _ <- [1, 2, 3]
    ],
    ?assertEqual(pong, call(A, net_adm, ping, [NodeB])),
    [stop(N) || N <- [A, B, C]].

told_of_nodes(Config) ->
    Mapper = ?config(mapper, Config),
    {A, _} = start(Config, a, []),
    ok = call(A, application, start, [evermap]),
    Told = tell_me(A, name("*")),
    {B, _} = start(Config, b, []),
    evermap_test_mapper:touch(Mapper),
    ?assertMatch({up, #{}}, next(Told, list_to_binary(name(b)))),
    stop(B),
    evermap_test_mapper:touch(Mapper),
    ?assertMatch({down, #{}}, next(Told, list_to_binary(name(b)))),
    stop(A).

%% The keeper starts another one, and no node is told to have left.
mapper_is_killed(Config) ->
    #{registry := Registry} = Mapper = ?config(mapper, Config),
    {A, _} = start(Config, a, []),
    {B, NodeB} = start(Config, b, []),
    ok = call(A, application, start, [evermap]),
    Told = tell_me(A, "*"),
    [
        begin
            #{registry := #{mapper_process := Pid}} = call(A, evermap, info, []),
            _ = os:cmd("kill -KILL " ++ integer_to_list(Pid)),
            ?assertMatch({ok, _}, call(A, evermap, lookup, [name(b)])),
            evermap_test_mapper:wait_for(fun() ->
                case call(A, evermap, info, []) of
                    #{registry := #{mapper_process := Other}} -> Other =/= Pid;
                    _ -> false
                end
            end)
        end
     || _ <- lists:seq(1, 5)
    ],
    ?assertEqual(pong, call(A, net_adm, ping, [NodeB])),
    Socket = evermap_test_mapper:register(Mapper, "last", 1),
    _ = os:cmd("touch -m " ++ Registry),
    %% The first thing that is told.
    ?assertMatch({up, <<"last">>, _}, receive {Told, Event} -> Event after ?PATIENCE_MS -> none end),
    evermap_test_mapper:unregister(Socket),
    [stop(N) || N <- [A, B]].

%% The mapper and its file go, and another mapper, with another file, comes: nodes register there by themselves.
other_mapper_takes_over(Config) ->
    #{registry := Registry, port := Port, pid := Pid} = Mapper = ?config(mapper, Config),
    {A, _} = start(Config, a, []),
    {B, NodeB} = start(Config, b, []),
    ok = call(A, application, start, [evermap]),
    {ok, Before} = call(A, evermap, subscribe, []),
    ?assertEqual(2, length(Before)),
    evermap_test_mapper:signal(Pid, "KILL"),
    #{program := Program} = Mapper,
    receive {Program, {exit_status, _}} -> ok after ?PATIENCE_MS -> error(lives) end,
    [file:delete(Registry ++ Suffix) || Suffix <- ["", ".lock"]],
    Arguments = ["-port", integer_to_list(Port), "-address", "127.0.0.1", "-registry", Registry, "-no_keeper"],
    Second = open_port({spawn_executable, os:getenv("EPMD")}, [{args, Arguments}, stderr_to_stdout, exit_status]),
    {os_pid, SecondPid} = erlang:port_info(Second, os_pid),
    evermap_test_mapper:wait_for(fun() ->
        case call(A, evermap_registry, entries, []) of
            {ok, [_, _]} -> true;
            _ -> false
        end
    end),
    ?assertEqual(pong, call(A, net_adm, ping, [NodeB])),
    [stop(N) || N <- [A, B]],
    evermap_test_mapper:signal(SecondPid, "KILL"),
    receive {Second, {exit_status, _}} -> ok after ?PATIENCE_MS -> error(lives) end,
    self() ! {Program, {exit_status, 0}},
    ok.

%% ---- Nodes ----

start(Config, Name, Arguments) ->
    start_at(Config, Name, evermap_test_mapper:registry(?config(mapper, Config)), Arguments).

%% A node that is talked to over its standard input and output.
start_at(Config, Name, Registry, Arguments) ->
    Options = #{
        connection => standard_io,
        exec => {os:find_executable("erl"), []},
        env => [{"ERL_EPMD_PORT", mapper_port(Config)}],
        args => arguments(Registry) ++ Arguments,
        wait_boot => ?PATIENCE_MS
    },
    {ok, Node, Full} =
        case Name of
            none -> peer:start(Options);
            %% The mapper listens there alone.
            _ -> peer:start(Options#{name => name(Name), host => "localhost"})
        end,
    {Node, Full}.

arguments(Registry) ->
    Paths = [filename:dirname(code:which(Module)) || Module <- [evermap, ?MODULE]],
    ["-pa"] ++ Paths ++ ["-setcookie", "evermap", "-start_epmd", "false", "-evermap_registry", Registry | module_flags()].

mapper_port(Config) -> integer_to_list(evermap_test_mapper:port(?config(mapper, Config))).

%% All that a node says that starts and ends.
said_by_node(Config, Registry) ->
    Command = ["env", "ERL_EPMD_PORT=" ++ mapper_port(Config), "erl", "-noshell", "-sname", name("said@localhost")] ++
        arguments(Registry) ++ ["-eval", "'timer:sleep(1000), init:stop().'", "2>&1"],
    list_to_binary(os:cmd(lists:join($ , Command))).

count(Part, Text) -> length(binary:matches(Text, list_to_binary(Part))).

%% Since OTP 27.2 it is a parameter of kernel; before there is only the flag.
module_flags() ->
    case has_parameter() of
        true -> ["-kernel", "epmd_module", "evermap_epmd"];
        false -> ["-epmd_module", "evermap_epmd"]
    end.

fixed_port_flag() -> "-erl_epmd_port".

has_parameter() ->
    {ok, Version} = application:get_key(kernel, vsn),
    [list_to_integer(Part) || Part <- string:lexemes(Version, ".")] >= [10, 2].

name(Name) when is_atom(Name) -> name(atom_to_list(Name));
name(Name) -> "ct_" ++ os:getpid() ++ "_" ++ Name.

call(Node, Module, Function, Arguments) -> peer:call(Node, Module, Function, Arguments, ?PATIENCE_MS).

stop(Node) -> peer:stop(Node).

%% A process of the node that subscribes and keeps what it is told; this one is sent it as {Reference, Event}.
tell_me(Node, Pattern) ->
    Reference = make_ref(),
    Self = self(),
    Teller = spawn_link(fun() -> poll(Node, Self, Reference) end),
    true = is_pid(Teller),
    ok = call(Node, ?MODULE, keep, [Pattern]),
    Reference.

poll(Node, To, Reference) ->
    case catch call(Node, ets, take, [?MODULE, event]) of
        Events when is_list(Events) -> [To ! {Reference, Event} || {event, Event} <- lists:sort(Events)];
        _ -> ok
    end,
    timer:sleep(20),
    is_process_alive(Node) andalso poll(Node, To, Reference).

next(Told, Name) ->
    receive
        {Told, {What, Name, Info}} -> {What, Info}
    after ?PATIENCE_MS -> error({not_told, Name})
    end.

keep(Pattern) ->
    Self = self(),
    spawn(fun() ->
        ?MODULE = ets:new(?MODULE, [named_table, public, duplicate_bag]),
        {ok, _} = evermap:subscribe(Pattern),
        Self ! kept,
        keep_on()
    end),
    receive kept -> ok end.

keep_on() ->
    receive
        {evermap, Event} -> ets:insert(?MODULE, {event, Event})
    end,
    keep_on().

%% ---- A release ----

make_boot(Config) ->
    Directory = ?config(priv_dir, Config),
    Release =
        {release, {"evermap_test", "1"}, {erts, erlang:system_info(version)},
            [{A, version(A)} || A <- [kernel, stdlib]] ++ [{evermap, version(evermap), load}]},
    File = filename:join(Directory, "evermap_test"),
    ok = file:write_file(File ++ ".rel", io_lib:format("~p.~n", [Release])),
    %% Where a release has its libraries.
    Libraries = filename:join(Directory, "lib"),
    Library = filename:join(Libraries, "evermap-" ++ version(evermap)),
    ok = filelib:ensure_dir(filename:join(Library, "any")),
    Source = filename:dirname(filename:dirname(code:which(evermap))),
    [_ = os:cmd(lists:join($ , ["cp", "-r", filename:join(Source, Part), Library])) || Part <- ["ebin", "priv"]],
    Options = [silent, no_dot_erlang, {path, [filename:join(Library, "ebin")]}, {variables, [{"EVERMAP_LIB", Libraries}]}],
    {ok, _, _} = systools:make_script(File, [{outdir, Directory} | Options]),
    ["-boot", File, "-boot_var", "EVERMAP_LIB", Libraries].

version(Application) ->
    _ = application:load(Application),
    {ok, Version} = application:get_key(Application, vsn),
    Version.
