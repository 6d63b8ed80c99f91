%% @doc The Erlang nodes of this host, as the Evermap port mapper knows them.
%%
%% Lookups and lists are read from the registry that the mapper keeps in shared memory: microseconds, in the calling
%% process, and also while the mapper is being restarted or upgraded. They need nothing to be started. {@link subscribe/1}
%% needs the application `evermap'.
%%
%% Where the registry cannot be read (another port mapper, a container that has not got the file, another version of its
%% layout) the mapper is asked over TCP; {@link info/0} says why. What is known then is the name and the port.
%%
%% == While the mapper is away ==
%%
%% The registry is a file, and shows what was known last: nodes stay in it while the mapper restarts, is upgraded or has
%% been killed. A node that ends meanwhile leaves when the next mapper has found that out. Nothing is said to have left
%% only because the mapper cannot be asked.
-module(evermap).

-export([lookup/1, lookup/2, names/0, names/1, nodes/0, info/0]).
-export([subscribe/0, subscribe/1, unsubscribe/0]).

-export_type([name/0, info/0, event/0, pattern/0]).

-type name() :: atom() | string() | binary().
%% A name of a node, without host.
-type info() ::
    #{
        name := binary(),
        port := inet:port_number(),
        source := registry | mapper,
        id => pos_integer(),
        creation => non_neg_integer(),
        type => normal | hidden | byte(),
        state => live | orphaned,
        since => integer(),
        versions => {non_neg_integer(), non_neg_integer()},
        extra => binary()
    }.
%% What is known of a node. `type': what it said; nodes of Erlang say `normal' also when they are started with -hidden. `id': of its registration, greater than those of all before. `state': `orphaned' when it is
%% registered, but its connection to the mapper was lost. `since': time of registration in ns of {@link
%% erlang:system_time/1}. `versions': lowest and highest of the distribution protocol. Other keys than the first three are
%% there when the source is the registry.
-type event() :: {evermap, {up | down, Name :: binary(), info()}}.
-type pattern() :: string() | binary().
%% `*' stands for any characters, `?' for one; all others for themselves.

-define(MAPPER, {127, 0, 0, 1}).
-define(MAPPER_TIMEOUT_MS, 5000).

%% @doc Finds a node of this host by its name.
-spec lookup(name()) -> {ok, info()} | {error, not_found}.
lookup(Name) ->
    Bytes = to_binary(Name),
    case evermap_registry:lookup(Bytes) of
        {ok, Entry} -> {ok, evermap_registry:to_info(Entry)};
        _ -> ask(Bytes, ?MAPPER)
    end.

%% @doc Finds a node of a host; another host's mapper is asked over TCP.
-spec lookup(name(), atom() | string() | inet:ip_address()) -> {ok, info()} | {error, not_found}.
lookup(Name, Host) ->
    case address_of(Host) of
        {ok, Address} ->
            case evermap_registry:is_own_address(Address) of
                true -> lookup(Name);
                false -> ask(to_binary(Name), Address)
            end;
        none ->
            {error, not_found}
    end.

ask(Bytes, Address) ->
    case erl_epmd:port_please(binary_to_list(Bytes), Address, ?MAPPER_TIMEOUT_MS) of
        {port, Port, _} -> {ok, #{name => Bytes, port => Port, source => mapper}};
        _ -> {error, not_found}
    end.

%% @doc Names and ports of this host's nodes, in no order. `address': neither the registry nor the mapper can be asked.
-spec names() -> {ok, [{Name :: binary(), inet:port_number()}]} | {error, address}.
names() -> names(?MAPPER).

%% @doc Names and ports of a host's nodes.
-spec names(atom() | string() | inet:ip_address()) -> {ok, [{Name :: binary(), inet:port_number()}]} | {error, address}.
names(Host) ->
    case evermap_epmd:names(Host) of
        {ok, Names} -> {ok, [{list_to_binary(Name), Port} || {Name, Port} <- Names]};
        _ -> {error, address}
    end.

%% @doc The other nodes of this host, as atoms with the host name of this one; C nodes, which register as hidden, are left
%% out when the registry can be read. Each name that is seen becomes an atom: where strangers may register nodes use {@link
%% names/0}.
-spec nodes() -> [node()].
nodes() ->
    case string:split(atom_to_list(node()), "@") of
        _ when node() =:= nonode@nohost -> [];
        [_, Host] -> lists:delete(node(), [binary_to_atom(<<Name/binary, $@, (list_to_binary(Host))/binary>>, latin1) || Name <- visible_names()])
    end.

visible_names() ->
    case evermap_registry:entries() of
        {ok, Entries} ->
            [element(3, Entry) || Entry <- Entries, element(6, Entry) =:= normal];
        _ ->
            case names() of
                {ok, Names} -> [Name || {Name, _} <- Names];
                _ -> []
            end
    end.

%% @doc What the answers come from, for people and monitoring. `registry': `#{error := Reason, text := Line}' when it
%% cannot be read. `hits' and `misses' count lookups since the node began. `subscribers': 0 also when the application is
%% not started; `watching': how subscribers are told: `events' by the kernel, `looking' from time to time, or `none'.
-spec info() -> #{registry := map(), subscribers := non_neg_integer(), watching := none | events | looking}.
info() ->
    Registry =
        case evermap_registry:facts() of
            {ok, Path, Port, Layout, Capacity, Generation, Process, Version, Started, Hits, Misses} ->
                #{
                    path => Path,
                    mapper_port => Port,
                    layout => Layout,
                    capacity => Capacity,
                    generation => Generation,
                    mapper_process => Process,
                    mapper_version => Version,
                    mapper_started => Started,
                    hits => Hits,
                    misses => Misses
                };
            {error, Reason, Text} ->
                #{error => Reason, text => Text, mapper_port => evermap_registry:mapper_port()}
        end,
    maps:put(registry, Registry, evermap_watcher:info()).

%% @equiv subscribe("*")
-spec subscribe() -> {ok, [info()]} | {error, not_started | badarg}.
subscribe() -> subscribe("*").

%% @doc Tells the calling process of nodes that come and go, whose names match the pattern.
%%
%% What is returned are the nodes that are there. From then on the process gets {@link event()}: `up' for each node that
%% registers after that and `down' for each that leaves, in this order also when a node is restarted so quickly that both
%% are seen at once. A node that comes and goes again in less than it takes to look may be told of by neither. Nothing else
%% is left out once it is quiet: whatever happens to the mapper and its file, the picture and the events add up to the nodes
%% that are registered.
%%
%% A process has one subscription: subscribing again begins with a new picture and another pattern. It ends with the
%% process, or by {@link unsubscribe/0}.
-spec subscribe(pattern()) -> {ok, [info()]} | {error, not_started | badarg}.
subscribe(Pattern) -> evermap_watcher:subscribe(Pattern).

%% @doc Ends the subscription of the calling process, if it has one. Events that it has not received yet stay in its
%% mailbox.
-spec unsubscribe() -> ok.
unsubscribe() -> evermap_watcher:unsubscribe().

to_binary(Name) when is_atom(Name) -> list_to_binary(atom_to_list(Name));
to_binary(Name) when is_binary(Name) -> Name;
to_binary(Name) -> list_to_binary(Name).

address_of(Host) when is_tuple(Host) -> {ok, Host};
address_of(Host) ->
    case inet:gethostbyname(Host) of
        {ok, {hostent, _, _, _, _, [Address | _]}} -> {ok, Address};
        _ -> none
    end.
