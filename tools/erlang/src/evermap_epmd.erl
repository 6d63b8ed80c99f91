%% @doc The module for kernel's parameter `epmd_module' (OTP 27.2 and later) or the flag `-epmd_module' (before).
%%
%% A node that uses it registers as ever, over TCP and by {@link erl_epmd}. Who looks for a node of this host, or for the
%% names of its nodes, is answered out of the registry of the Evermap port mapper, in microseconds and also while the
%% mapper is being restarted. Other hosts, and whatever the registry does not answer, are asked for over TCP, so that a
%% node with this module finds nothing less than one without it.
%%
%% It needs no application to be started and starts no process of its own: `start_link/0' returns that of erl_epmd.
-module(evermap_epmd).

-include_lib("kernel/include/logger.hrl").

-export([start_link/0, register_node/2, register_node/3, listen_port_please/2]).
-export([address_please/3, port_please/2, port_please/3, names/0, names/1]).
%% What nobody calls any more, but some programs may.
-export([start/0, stop/0, open/0, open/1, open/2]).

%% Of the distribution protocol; the one that all nodes since OTP 23 speak.
-define(VERSION, 6).

-define(SAY_PAUSE_MS, 50).
-define(SAY_TRIES, 600).

-type found() :: {port, inet:port_number(), Version :: non_neg_integer()}.

%% @doc Starts erl_epmd. When the registry cannot be read that is said in one line, and everything goes over TCP until it
%% can be.
-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    try evermap_registry:facts() of
        {error, _, Text} -> say(Text);
        _ -> ok
    catch
        Class:Reason -> say(io_lib:format("~p: ~0p", [Class, Reason]))
    end,
    erl_epmd:start_link().

%% What is logged while a node starts is shown at once, and again when its handlers are there: this waits for them.
say(Text) -> _ = spawn(fun() -> say(Text, ?SAY_TRIES) end), ok.

say(Text, TriesLeft) ->
    case lists:member(simple, logger:get_handler_ids()) of
        true when TriesLeft > 0 ->
            timer:sleep(?SAY_PAUSE_MS),
            say(Text, TriesLeft - 1);
        _ ->
            ?LOG_NOTICE("evermap: ~ts; nodes are looked up at the port mapper over TCP until then", [Text])
    end.

%% @equiv register_node(Name, Port, inet)
-spec register_node(atom() | string(), inet:port_number()) -> {ok, integer()} | {error, term()}.
register_node(Name, Port) -> erl_epmd:register_node(Name, Port).

%% @doc As erl_epmd does it: the mapper alone writes to the registry.
-spec register_node(atom() | string(), inet:port_number(), atom()) -> {ok, integer()} | {error, term()}.
register_node(Name, Port, Family) -> erl_epmd:register_node(Name, Port, Family).

%% @doc As erl_epmd does it.
-spec listen_port_please(atom() | string(), string() | inet:ip_address()) -> {ok, inet:port_number()}.
listen_port_please(Name, Host) -> erl_epmd:listen_port_please(Name, Host).

%% @doc The address of a host, and of a node of this one also its port.
-spec address_please(string(), string() | inet:ip_address(), atom()) ->
    {ok, inet:ip_address()} | {ok, inet:ip_address(), inet:port_number(), non_neg_integer()} | {error, term()}.
address_please(Name, Host, Family) ->
    case erl_epmd:address_please(Name, Host, Family) of
        {ok, Address} = Found ->
            case find(Name, Address) of
                {port, Port, Version} -> {ok, Address, Port, Version};
                noport -> Found
            end;
        Other ->
            Other
    end.

%% @equiv port_please(Name, Host, infinity)
-spec port_please(atom() | string(), string() | inet:ip_address()) -> found() | noport | term().
port_please(Name, Host) -> port_please(Name, Host, infinity).

%% @doc The port of a node. The time is that of asking over TCP.
-spec port_please(atom() | string(), string() | inet:ip_address(), timeout()) -> found() | noport | term().
port_please(Name, Host, Timeout) ->
    Found =
        case address_of(Host) of
            {ok, Address} -> find(Name, Address);
            none -> noport
        end,
    case Found of
        {port, _, _} -> Found;
        noport -> erl_epmd:port_please(Name, Host, Timeout)
    end.

%% @doc The names of this host's nodes, and their ports.
-spec names() -> {ok, [{string(), inet:port_number()}]} | {error, term()}.
names() ->
    {ok, Host} = inet:gethostname(),
    names(Host).

%% @doc The names of a host's nodes, and their ports.
-spec names(atom() | string() | inet:ip_address()) -> {ok, [{string(), inet:port_number()}]} | {error, term()}.
names(Host) ->
    case is_here(Host) andalso evermap_registry:names() of
        {ok, _} = Names -> Names;
        _ -> erl_epmd:names(Host)
    end.

%% A node in the registry that is sure to be there, and that erl_epmd would find. An orphan may be dead, which the mapper
%% looks into when it is asked.
find(Name, Address) ->
    try is_stock_way(Name) orelse not evermap_registry:is_own_address(Address) orelse evermap_registry:lookup(to_bytes(Name)) of
        {ok, {_, _, _, Port, _, _, live, _, Lowest, Highest, _, _}} when Lowest =< ?VERSION, ?VERSION =< Highest ->
            {port, Port, ?VERSION};
        _ ->
            noport
    catch
        error:_ -> noport
    end.

%% A configured port goes before what any mapper knows, and so do configured versions.
is_stock_way(Name) ->
    erl_epmd:listen_port_please(Name, localhost) =/= {ok, 0} orelse
        os:getenv("ERL_EPMD_DIST_LOW") =/= false orelse os:getenv("ERL_EPMD_DIST_HIGH") =/= false.

%% Others than ASCII are not written in the same way by all versions.
to_bytes(Name) when is_atom(Name) -> to_bytes(atom_to_list(Name));
to_bytes(Name) ->
    true = lists:all(fun(C) -> C > 0 andalso C < 128 end, Name),
    Name.

%% The same that erl_epmd would ask.
address_of(Host) when is_tuple(Host) -> {ok, Host};
address_of(Host) ->
    case inet:gethostbyname(Host) of
        {ok, {hostent, _, _, _, _, [Address | _]}} -> {ok, Address};
        _ -> none
    end.

is_here(Host) ->
    case address_of(Host) of
        {ok, Address} -> evermap_registry:is_own_address(Address);
        none -> false
    end.

%% @private
start() -> erl_epmd:start().
%% @private
stop() -> erl_epmd:stop().
%% @private
open() -> erl_epmd:open().
%% @private
open(Address) -> erl_epmd:open(Address).
%% @private
open(Address, Timeout) -> erl_epmd:open(Address, Timeout).
