%% A port mapper of the tests' own, and nodes that are nothing but a connection to it.
%%
%% The mapper is the program that the environment variable EPMD names; without it the tests that need one are skipped.
-module(evermap_test_mapper).

-export([is_there/0, start/0, start/1, stop/1, port/1, registry/1, directory/1, signal/2]).
-export([register/3, unregister/1, port_of_call/1, wait_for/1, touch/1]).

-define(PATIENCE_MS, 30000).

is_there() -> os:getenv("EPMD", "") =/= "".

start() -> start(#{}).

%% With a keeper, if `keeper' says so: then it comes back when it is killed.
start(Options) ->
    Directory = string:trim(os:cmd("mktemp -d /tmp/evermap-erlang-XXXXXX")),
    Port = free_port(),
    Registry = filename:join(Directory, "registry"),
    Arguments =
        ["-port", integer_to_list(Port), "-address", "127.0.0.1", "-registry", Registry] ++
            ["-no_keeper" || not maps:get(keeper, Options, false)],
    Program = open_port({spawn_executable, os:getenv("EPMD")}, [{args, Arguments}, stderr_to_stdout, exit_status]),
    {os_pid, Pid} = erlang:port_info(Program, os_pid),
    wait_for(fun() -> is_serving(Port) end),
    #{directory => Directory, port => Port, registry => Registry, pid => Pid, program => Program}.

stop(#{directory := Directory, program := Program, pid := Pid}) ->
    signal(Pid, "TERM"),
    receive
        {Program, {exit_status, _}} -> ok
    after ?PATIENCE_MS -> signal(Pid, "KILL")
    end,
    _ = os:cmd("rm -rf " ++ Directory),
    ok.

port(#{port := Port}) -> Port.
registry(#{registry := Registry}) -> Registry.
directory(#{directory := Directory}) -> Directory.

signal(Pid, Name) -> os:cmd("kill -" ++ Name ++ " " ++ integer_to_list(Pid)).

%% Registers a node that listens on a port, as it says.
register(#{port := MapperPort}, Name, Port) ->
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, MapperPort, [binary, {packet, raw}, {active, false}]),
    Bytes = iolist_to_binary(Name),
    Request = <<$x, Port:16, 77, 0, 6:16, 5:16, (byte_size(Bytes)):16, Bytes/binary, 0:16>>,
    ok = gen_tcp:send(Socket, <<(byte_size(Request)):16, Request/binary>>),
    {ok, <<118, 0, _Creation:32>>} = gen_tcp:recv(Socket, 6, ?PATIENCE_MS),
    Socket.

unregister(Socket) -> gen_tcp:close(Socket).

port_of_call(Call) ->
    {port, Port, _} = Call,
    Port.

%% The modification time of the registry, as the mapper sets it.
touch(#{registry := Registry}) -> _ = os:cmd("touch -m -c " ++ Registry), ok.

wait_for(Condition) -> wait_for(Condition, erlang:monotonic_time(millisecond) + ?PATIENCE_MS).

wait_for(Condition, Deadline) ->
    case Condition() of
        true ->
            ok;
        Other ->
            erlang:monotonic_time(millisecond) < Deadline orelse error({not_in_time, Other}),
            timer:sleep(5),
            wait_for(Condition, Deadline)
    end.

%% It listens before it serves, and what the registry says of it stands there when it serves.
is_serving(Port) ->
    case gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}]) of
        {ok, Socket} ->
            ok = gen_tcp:send(Socket, <<1:16, $n>>),
            Answer = gen_tcp:recv(Socket, 4, ?PATIENCE_MS),
            ok = gen_tcp:close(Socket),
            Answer =:= {ok, <<Port:32>>};
        _ ->
            false
    end.

free_port() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Port.
