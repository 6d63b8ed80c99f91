%% @private
%% The native library, as it is. evermap_registry.erl is what the other modules use.
%%
%% It is loaded by load/0 and not by -on_load, which in a release would run after distribution has started. What all
%% functions return that cannot read the registry is {error, Reason, Text}, Text being one line for people.
-module(evermap_nif).

-export([load/0, registry_new/2, lookup/2, list/2, seen_new/0, changes/2, facts/1]).
-export([watch_new/0, watch_registry/2, watch_arm/1, watch_drain/1, watch_close/1, is_own_address/1]).

-export_type([registry/0, seen/0, watch/0, entry/0, problem/0, reason/0, facts/0, slot/0]).

-nifs([registry_new/2, lookup/2, list/2, seen_new/0, changes/2, facts/1]).
-nifs([watch_new/0, watch_registry/2, watch_arm/1, watch_drain/1, watch_close/1, is_own_address/1]).

-type registry() :: reference().
-type seen() :: reference().
-type watch() :: reference().
-type slot() :: non_neg_integer().
-type reason() ::
    no_registry
    | outdated
    | not_trusted
    | damaged
    | unknown_layout
    | other_namespace
    | other_boot
    | busy
    | system
    | not_loaded.
-type problem() :: {error, reason(), binary()}.
%% Slot, Id, Name, Port, Creation, Type, State, time of registration, lowest and highest version, Protocol, Extra.
-type entry() ::
    {
        slot(),
        pos_integer(),
        binary(),
        inet:port_number(),
        non_neg_integer(),
        normal | hidden | byte(),
        live | orphaned,
        integer(),
        non_neg_integer(),
        non_neg_integer(),
        byte(),
        binary()
    }.
%% Path, Port, Layout, Capacity, Generation, process and version of the mapper, when it began, hits, misses.
-type facts() ::
    {ok, binary(), inet:port_number(), pos_integer(), pos_integer(), non_neg_integer(), non_neg_integer(), binary(),
        integer(), non_neg_integer(), non_neg_integer()}.

%% Loads the library; may be called any number of times.
-spec load() -> ok | {error, not_loaded, binary()}.
load() ->
    case erlang:load_nif(library(), 0) of
        ok -> ok;
        {error, {reload, _}} -> ok;
        {error, {upgrade, _}} -> ok;
        {error, {_, Text}} -> {error, not_loaded, unicode:characters_to_binary(Text)}
    end.

%% Beside the directory that this module was loaded from. What code:priv_dir/1 says may be of any other directory in the path
%% that is called evermap-SOMETHING.
library() ->
    Directory =
        case code:is_loaded(?MODULE) of
            {file, File} when is_list(File) -> filename:join(filename:dirname(filename:dirname(File)), "priv");
            _ -> code:priv_dir(evermap)
        end,
    filename:join(Directory, "evermap_nif").

%% The registry of the mapper on a port, at this path, or (<<>>) at the usual ones.
-spec registry_new(inet:port_number(), binary()) -> registry().
registry_new(_Port, _Path) -> erlang:nif_error(not_loaded).

-spec lookup(registry(), iodata()) -> {ok, entry()} | not_found | problem().
lookup(_Registry, _Name) -> erlang:nif_error(not_loaded).

-spec list(registry(), names | entries) -> {ok, [{string(), inet:port_number()}] | [entry()]} | problem().
list(_Registry, _Kind) -> erlang:nif_error(not_loaded).

-spec seen_new() -> seen().
seen_new() -> erlang:nif_error(not_loaded).

%% What has changed since it was last asked with this `Seen'. The second element says whether all of it is told anew, as
%% another file has taken the place of the one that was seen; `busy': something was changing, ask again soon.
-spec changes(registry(), seen()) -> {ok | busy, boolean(), [entry() | {slot(), gone}]} | problem().
changes(_Registry, _Seen) -> erlang:nif_error(not_loaded).

-spec facts(registry()) -> facts() | problem().
facts(_Registry) -> erlang:nif_error(not_loaded).

%% Belongs to the calling process, and is closed when that ends.
-spec watch_new() -> {ok, watch()} | problem().
watch_new() -> erlang:nif_error(not_loaded).

%% Watches the registry's file, and the directories where one may come; `changed': it is another file than before.
-spec watch_registry(watch(), registry()) -> ok | changed | problem().
watch_registry(_Watch, _Registry) -> erlang:nif_error(not_loaded).

%% The calling process gets {select, Watch, undefined, ready_input} once, when there is something to be read.
-spec watch_arm(watch()) -> ok | problem().
watch_arm(_Watch) -> erlang:nif_error(not_loaded).

-spec watch_drain(watch()) -> ok.
watch_drain(_Watch) -> erlang:nif_error(not_loaded).

-spec watch_close(watch()) -> ok.
watch_close(_Watch) -> erlang:nif_error(not_loaded).

%% Of 4 or 16 bytes.
-spec is_own_address(binary()) -> boolean().
is_own_address(_Address) -> erlang:nif_error(not_loaded).
