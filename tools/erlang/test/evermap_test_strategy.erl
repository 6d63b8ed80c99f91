%% Starts a strategy of libcluster.
-module(evermap_test_strategy).

-export([start/1, start/2]).

-define(INTERVAL_MS, 5000).

%% When the node starts: `-s evermap_test_strategy start Evermap`. The hosts of Epmd's configuration are the words behind -hosts.
start([Strategy]) ->
    ok = evermap_test_nodes:start(),
    [_, Host] = string:split(atom_to_list(node()), "@"),
    Hosts = [list_to_atom(Name ++ "@" ++ Host) || {hosts, Names} <- init:get_arguments(), Name <- Names],
    start(Strategy, [{hosts, Hosts}, {timeout, ?INTERVAL_MS}]).

start(Strategy, Config) ->
    {ok, _} = application:ensure_all_started(elixir),
    State = #{
        '__struct__' => 'Elixir.Cluster.Strategy.State',
        topology => here,
        connect => {net_kernel, connect_node, []},
        disconnect => {erlang, disconnect_node, []},
        list_nodes => {erlang, nodes, [connected]},
        meta => nil,
        config => Config
    },
    Module = list_to_atom("Elixir.Cluster.Strategy." ++ atom_to_list(Strategy)),
    %% A process of its own: the strategy is linked to who starts it.
    _ = spawn(fun() ->
        _ = Module:start_link([State]),
        receive never -> ok end
    end),
    ok.
