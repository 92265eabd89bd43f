import PeerCommands

await PeerCommandLine.main()
