import Glibc

// Plays a scene with two coordinators, configured by the environment as any peer is:
//
//     coordinator-pair SCENE...
//
// It prints a line for each scene that went as it should, and ends with 1 at the first that did not.

for name in CommandLine.arguments.dropFirst() {
    guard let scene = Scenes.all[name] else {
        print("usage: coordinator-pair SCENE...; scenes: \(Scenes.all.keys.sorted().joined(separator: ", "))")
        exit(64)
    }
    do {
        try await scene()
        say("ok \(name)")
    } catch {
        say("failed \(name): \(error)")
        exit(1)
    }
}
