%% @private
-module(evermap_sup).
-behaviour(supervisor).

-export([start_link/0, init/1]).

start_link() -> supervisor:start_link({local, ?MODULE}, ?MODULE, []).

init([]) ->
    Watcher = #{id => evermap_watcher, start => {evermap_watcher, start_link, []}},
    {ok, {#{strategy => one_for_one, intensity => 3, period => 10}, [Watcher]}}.
