%% When nodes were connected to this one.
-module(evermap_test_nodes).

-export([start/0, ups/0]).

start() ->
    Caller = self(),
    Pid = spawn(fun() ->
        register(?MODULE, self()),
        ok = net_kernel:monitor_nodes(true),
        Caller ! {self(), begun},
        %% Of those that were quicker it is known that they are there by now.
        loop([{erlang:system_time(), Node} || Node <- nodes()])
    end),
    receive {Pid, begun} -> ok end.

loop(Ups) ->
    receive
        {nodeup, Node} -> loop([{erlang:system_time(), Node} | Ups]);
        {nodedown, _} -> loop(Ups);
        {ask, From} -> From ! {?MODULE, Ups}, loop(Ups)
    end.

%% The latest first, with system time in ns.
ups() ->
    ?MODULE ! {ask, self()},
    receive {?MODULE, Ups} -> Ups end.
