defmodule Chat do
  @moduledoc "Connects to all other nodes of the host; the release `telnet` also answers people on port 2323."
  use Application

  def start(_type, _arguments) do
    roles = if System.get_env("RELEASE_NAME") == "telnet", do: [Chat.Telnet], else: []
    Supervisor.start_link([Chat.Neighbours | roles], strategy: :one_for_one)
  end
end

defmodule Chat.Neighbours do
  @moduledoc "Asks the mapper, again and again, which nodes there are, and connects to them."
  use Task, restart: :permanent

  @pause_ms 100

  def start_link(_), do: Task.start_link(&connect/0)

  defp connect do
    [_, host] = node() |> to_string() |> String.split("@")
    with {:ok, names} <- :erl_epmd.names(), do: for({name, _port} <- names, do: Node.connect(:"#{name}@#{host}"))
    Process.sleep(@pause_ms)
    connect()
  end
end

defmodule Chat.Telnet do
  @moduledoc "Answers `nodes` with the nodes it sees and whom these see, and everything else with itself."
  use Task, restart: :permanent

  @port 2323

  def start_link(_), do: Task.start_link(&listen/0)

  defp listen do
    {:ok, listener} = :gen_tcp.listen(@port, [:binary, packet: :line, active: false, reuseaddr: true])
    accept(listener)
  end

  defp accept(listener) do
    {:ok, session} = :gen_tcp.accept(listener)
    :ok = :gen_tcp.controlling_process(session, spawn(fn -> talk(session) end))
    accept(listener)
  end

  defp talk(session) do
    {:ok, line} = :gen_tcp.recv(session, 0)
    reply = if line == "nodes\n", do: Enum.map_join(Node.list(), ", ", &seen_from/1) <> "\n", else: line
    :ok = :gen_tcp.send(session, reply)
    talk(session)
  end

  # One that leaves meanwhile sees `{:badrpc, :nodedown}`.
  defp seen_from(node), do: "#{node} sees #{inspect(:rpc.call(node, Node, :list, []))}"
end
