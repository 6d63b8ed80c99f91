%% @private
%% The registry of this node's mapper, for the other modules. Works in any process, from the moment on in which kernel
%% starts, and without any application being started.
-module(evermap_registry).

-export([get/0, nif/2, mapper_port/0, lookup/1, names/0, entries/0, facts/0, is_own_address/1, to_info/1]).

-define(KEY, {?MODULE, registry}).
-define(DEFAULT_PORT, 4369).

%% The registry; one for the life of the node, which follows the file.
-spec get() -> {ok, evermap_nif:registry()} | {error, not_loaded, binary()}.
get() ->
    case persistent_term:get(?KEY, none) of
        none -> open();
        Found -> Found
    end.

%% Of two processes that open it at once one puts its own last; both are of use.
open() ->
    Result =
        case evermap_nif:load() of
            ok -> {ok, evermap_nif:registry_new(mapper_port(), path())};
            {error, _, _} = Problem -> Problem
        end,
    persistent_term:put(?KEY, Result),
    Result.

%% Calls the native library, and loads it first where its module was replaced by a newer one.
-spec nif(atom(), [term()]) -> term().
nif(Function, Arguments) ->
    try
        apply(evermap_nif, Function, Arguments)
    catch
        error:not_loaded ->
            ok = evermap_nif:load(),
            apply(evermap_nif, Function, Arguments)
    end.

%% The port of the mapper that this node asks.
-spec mapper_port() -> inet:port_number().
mapper_port() ->
    case init:get_argument(epmd_port) of
        {ok, [[Port | _] | _]} ->
            try
                list_to_integer(Port)
            catch
                error:badarg -> ?DEFAULT_PORT
            end;
        _ ->
            ?DEFAULT_PORT
    end.

%% Where the mapper's option -registry says that it is, when it does.
path() ->
    case init:get_argument(evermap_registry) of
        {ok, [[Path | _] | _]} -> unicode:characters_to_binary(Path, file:native_name_encoding());
        _ -> path_of_application()
    end.

path_of_application() ->
    case application:get_env(evermap, registry) of
        {ok, Path} when is_binary(Path); is_list(Path) -> unicode:characters_to_binary(Path);
        _ -> <<>>
    end.

-spec lookup(iodata()) -> {ok, evermap_nif:entry()} | not_found | evermap_nif:problem().
lookup(Name) ->
    case ?MODULE:get() of
        {ok, Registry} -> nif(lookup, [Registry, Name]);
        Problem -> Problem
    end.

%% Names as erl_epmd has them: bytes.
-spec names() -> {ok, [{string(), inet:port_number()}]} | evermap_nif:problem().
names() -> list(names).

-spec entries() -> {ok, [evermap_nif:entry()]} | evermap_nif:problem().
entries() -> list(entries).

list(Kind) ->
    case ?MODULE:get() of
        {ok, Registry} -> nif(list, [Registry, Kind]);
        Problem -> Problem
    end.

-spec facts() -> evermap_nif:facts() | evermap_nif:problem().
facts() ->
    case ?MODULE:get() of
        {ok, Registry} -> nif(facts, [Registry]);
        Problem -> Problem
    end.

%% Whether what listens at an address is on this host, and so in its registry. The kernel is asked each time, as addresses
%% come and go.
-spec is_own_address(inet:ip_address()) -> boolean().
is_own_address({127, _, _, _}) -> true;
is_own_address({0, 0, 0, 0, 0, 0, 0, 1}) -> true;
is_own_address({A, B, C, D}) -> is_own(<<A, B, C, D>>);
is_own_address({_, _, _, _, _, _, _, _} = Address) -> is_own(<<<<Word:16>> || Word <- tuple_to_list(Address)>>);
is_own_address(_) -> false.

is_own(Bytes) ->
    case ?MODULE:get() of
        {ok, _} -> nif(is_own_address, [Bytes]);
        _ -> false
    end.

-spec to_info(evermap_nif:entry()) -> evermap:info().
to_info({_, Id, Name, Port, Creation, Type, State, Since, Lowest, Highest, _Protocol, Extra}) ->
    #{
        name => Name,
        port => Port,
        source => registry,
        id => Id,
        creation => Creation,
        type => Type,
        state => State,
        since => Since,
        versions => {Lowest, Highest},
        extra => Extra
    }.
