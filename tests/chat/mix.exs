defmodule Chat.MixProject do
  use Mix.Project

  # Two releases of one application, as the nodes of stories_test.py.
  def project, do: [app: :chat, version: "0.1.0", releases: [web: [], telnet: []]]

  def application, do: [mod: {Chat, []}]
end
