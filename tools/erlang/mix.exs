defmodule Mix.Tasks.Compile.EvermapNif do
  @moduledoc false
  # The native library; needs a C compiler and make.
  use Mix.Task.Compiler

  @impl true
  def run(_args) do
    {output, status} = System.cmd("make", ["-C", "c_src"], cd: __DIR__, stderr_to_stdout: true)
    if status == 0 do
      # The application's directory in _build has a link to priv, if that was there when it was made.
      Mix.Project.build_structure()
      :ok
    else
      Mix.shell().error(output)
      {:error, []}
    end
  end
end

defmodule Evermap.MixProject do
  use Mix.Project

  def project do
    [
      app: :evermap,
      version: "0.1.0",
      elixir: "~> 1.13",
      compilers: [:evermap_nif] ++ Mix.compilers(),
      erlc_paths: ["src"],
      elixirc_paths: ["lib"],
      deps: deps(),
      description: "The Erlang nodes of this host, out of the shared memory of the Evermap port mapper",
      package: [licenses: ["Apache-2.0"], files: ["src", "lib", "c_src", "mix.exs", "rebar.config", "README.md"]],
      docs: [main: "readme", extras: ["README.md"]]
    ]
  end

  def application do
    [mod: {:evermap_app, []}, registered: [:evermap_sup, :evermap_watcher]]
  end

  # Optional: it is compiled before this where an application has it, and not fetched where none has. Without Hex nothing
  # with a version can be named, and an application that has libcluster from elsewhere lists it before this.
  defp deps do
    if Code.ensure_loaded?(Hex), do: [{:libcluster, "~> 3.3", optional: true}], else: []
  end
end
