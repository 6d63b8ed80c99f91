# Compiled only where libcluster is a dependency of the application, too.
if Code.ensure_loaded?(Cluster.Strategy) do
  defmodule Cluster.Strategy.Evermap do
    @moduledoc """
    Connects to nodes as they register with the Evermap port mapper, and disconnects from those that have left.

    Nothing is asked for again and again: the nodes of this host are told of by the kernel, some
    milliseconds after they have registered. No list of nodes is configured either; a pattern of
    their names is enough.

        config :libcluster,
          topologies: [
            here: [
              strategy: #{__MODULE__},
              config: [names: ["web*", "telnet"]]]]

    The application `:evermap` is started if it is not.

    | option | default | |
    |---|---|---|
    | `names` | `["*"]` | patterns of the names (without host) to connect to: `*` stands for any characters, `?` for one |
    | `host` | that of this node | what stands behind the `@` in the names of this host's nodes |
    | `scope` | `:local` | `:local`: the nodes of this host. `{:hosts, hosts}`: also those of other hosts, whose mappers are asked over TCP |
    | `interval` | `5_000` | ms after which other hosts are asked again |
    | `grace` | `1_000` | ms for which the newer node of two waits for the older one to connect |
    | `spread` | `1` | ms for each known node: connections to a newcomer are spread over their sum, at most one second |
    | `disconnect_after` | `1_000` | ms after which a node that has left is disconnected, if it has not come back |

    ## Who connects

    Of two nodes the one that registered first connects, as it is up: it is told of the newcomer, and
    waits for a random part of the spread, so that not all connect at once. The newcomer connects to
    those that have not done so when its grace is over, also spread. A connection that fails is tried again, after
    one second, two, four, ... at most thirty, as long as the node is registered.

    Each name that matches becomes an atom. Where strangers may register nodes, and there are many,
    choose patterns that leave them out; they still need the cookie to be connected.

    Nodes that run, but whose mapper does not, are neither connected nor disconnected: see
    `:evermap.subscribe/1`.
    """
    use GenServer
    use Cluster.Strategy

    alias Cluster.Strategy.State

    @spread_max 1_000
    @retry_first 1_000
    @retry_max 30_000

    @impl true
    def start_link([%State{} = state]), do: GenServer.start_link(__MODULE__, state)

    @impl true
    def init(%State{config: config} = state) do
      {:ok, _} = Application.ensure_all_started(:evermap)
      patterns = config |> Keyword.get(:names, ["*"]) |> List.wrap() |> Enum.map(&compile/1)

      known = %{
        state: state,
        patterns: patterns,
        host: Keyword.get(config, :host, host_of(node())),
        # Node -> {what it is told of by, id of its registration or nil}
        here: %{},
        # Node -> {timer, what it is for, how long it waits}
        waiting: %{},
        # Host -> MapSet of nodes
        elsewhere: %{},
        watcher: nil
      }

      {:ok, known, {:continue, :begin}}
    end

    @impl true
    def handle_continue(:begin, known) do
      for host <- hosts(known), do: send(self(), {:ask, host})
      {:noreply, subscribe(known)}
    end

    @impl true
    def handle_info({:evermap, {:up, name, info}}, known) do
      {:noreply, up(known, name, info, :newcomer)}
    end

    def handle_info({:evermap, {:down, name, _info}}, known) do
      {:noreply, down(known, name)}
    end

    def handle_info({:timeout, timer, {what, node}}, known) do
      case known.waiting do
        %{^node => {^timer, ^what, pause}} ->
          {:noreply, act(what, node, pause, %{known | waiting: Map.delete(known.waiting, node)})}

        _ ->
          {:noreply, known}
      end
    end

    # What was known is compared with the picture that is given then.
    def handle_info({:DOWN, monitor, :process, _, _}, %{watcher: monitor} = known) do
      Process.send_after(self(), :subscribe, 100)
      {:noreply, %{known | watcher: nil}}
    end

    def handle_info(:subscribe, %{watcher: nil} = known), do: {:noreply, subscribe(known)}

    # Another process asks: the mapper of another host may be slow or silent.
    def handle_info({:ask, host}, known) do
      me = self()

      {_, _} =
        spawn_monitor(fn ->
          {:ok, _} = :timer.kill_after(interval(known))
          send(me, {:names, host, :evermap.names(to_charlist(host))})
        end)

      Process.send_after(self(), {:ask, host}, interval(known))
      {:noreply, known}
    end

    def handle_info({:names, host, {:ok, names}}, known) do
      before = Map.get(known.elsewhere, host, MapSet.new())
      nodes = for {name, _port} <- names, wanted?(known, name), into: MapSet.new(), do: :"#{name}@#{host}"
      known = %{known | elsewhere: Map.put(known.elsewhere, host, nodes)}
      known = Enum.reduce(MapSet.difference(nodes, before), known, &wait(&2, &1, :connect, spread(&2)))
      {:noreply, Enum.reduce(MapSet.difference(before, nodes), known, &wait(&2, &1, :disconnect, after_ms(&2)))}
    end

    def handle_info(_, known), do: {:noreply, known}

    # ---- Nodes of this host ----

    defp subscribe(known) do
      watcher = Process.monitor(:evermap_watcher)

      case :evermap.subscribe("*") do
        {:ok, picture} ->
          names = for %{name: name} <- picture, do: name
          gone = for {node, {name, _}} <- known.here, name not in names, do: {node, name}
          known = Enum.reduce(gone, %{known | watcher: watcher}, fn {_, name}, k -> down(k, name) end)
          Enum.reduce(picture, known, fn info, k -> up(k, info.name, info, :there_before) end)

        {:error, _} ->
          Process.demonitor(watcher, [:flush])
          Process.send_after(self(), :subscribe, 1_000)
          known
      end
    end

    defp up(known, name, info, when_seen) do
      cond do
        # C nodes do not take part in a mesh.
        Map.get(info, :type, :normal) != :normal or not wanted?(known, name) ->
          known

        true ->
          node = :"#{name}@#{known.host}"
          is_new = Map.get(known.here, node) != {name, info[:id]}
          known = %{known | here: Map.put(known.here, node, {name, info[:id]})}
          if is_new and node != node(), do: wait(known, node, :connect, first_pause(known, when_seen)), else: known
      end
    end

    defp down(known, name) do
      if wanted?(known, name) do
        node = :"#{name}@#{known.host}"
        wait(%{known | here: Map.delete(known.here, node)}, node, :disconnect, after_ms(known))
      else
        known
      end
    end

    defp first_pause(known, :newcomer), do: spread(known)
    defp first_pause(known, :there_before), do: option(known, :grace, 1_000) + spread(known)

    # ---- Connections ----

    defp act(:connect, node, pause, known) do
      %State{} = state = known.state

      cond do
        not registered?(known, node) ->
          known

        Cluster.Strategy.connect_nodes(state.topology, state.connect, state.list_nodes, [node]) == :ok ->
          known

        true ->
          wait(known, node, :connect, min(max(2 * pause, @retry_first), @retry_max))
      end
    end

    defp act(:disconnect, node, _pause, known) do
      %State{} = state = known.state

      unless registered?(known, node) do
        Cluster.Strategy.disconnect_nodes(state.topology, state.disconnect, state.list_nodes, [node])
      end

      known
    end

    defp registered?(known, node) do
      Map.has_key?(known.here, node) or Enum.any?(Map.values(known.elsewhere), &MapSet.member?(&1, node))
    end

    # A node waits for one thing at a time: the last that was heard of it decides.
    defp wait(known, node, what, pause) do
      case known.waiting do
        %{^node => {timer, _, _}} -> :erlang.cancel_timer(timer)
        _ -> :ok
      end

      timer = :erlang.start_timer(pause, self(), {what, node})
      %{known | waiting: Map.put(known.waiting, node, {timer, what, pause})}
    end

    defp spread(known) do
      window = min(option(known, :spread, 1) * (map_size(known.here) + 1), @spread_max)
      if window > 0, do: :rand.uniform(window + 1) - 1, else: 0
    end

    defp after_ms(known), do: option(known, :disconnect_after, 1_000)
    defp interval(known), do: option(known, :interval, 5_000)
    defp option(known, key, default), do: Keyword.get(known.state.config, key, default)

    defp hosts(known) do
      case option(known, :scope, :local) do
        :local -> []
        {:hosts, hosts} -> hosts
      end
    end

    # ---- Names ----

    defp wanted?(known, name), do: Enum.any?(known.patterns, &Regex.match?(&1, name))

    defp compile(pattern) do
      quoted = pattern |> to_string() |> Regex.escape()
      Regex.compile!("\\A" <> (quoted |> String.replace("\\*", ".*") |> String.replace("\\?", ".")) <> "\\z", "s")
    end

    defp host_of(node), do: node |> to_string() |> String.split("@") |> List.last()
  end
end
