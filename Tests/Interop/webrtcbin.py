"""GStreamer's webrtcbin as a data channel peer, for Debian's own Python, which has its bindings. Told lines, it tells
JSON.

    webrtcbin.py offer|answer [turn://USER:PASSWORD@HOST:PORT]...

It sends back what it is sent, and tells the text of it."""

import json
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstWebRTC", "1.0")
gi.require_version("GstSdp", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402


def say(**event):
    print(json.dumps(event), flush=True)


class Peer:
    def __init__(self, offers, servers):
        self.offers, self.channels = offers, []
        self.pipeline = Gst.Pipeline.new("peer")
        self.peer = Gst.ElementFactory.make("webrtcbin", "peer")
        for server in servers:
            self.peer.emit("add-turn-server", server)
        self.pipeline.add(self.peer)
        self.peer.connect("on-ice-candidate", self.found)
        self.peer.connect("on-data-channel", lambda _, channel: self.take(channel))
        self.peer.connect("notify::ice-connection-state", self.changed)
        self.peer.connect("notify::connection-state", self.changed)
        self.pipeline.set_state(Gst.State.PLAYING)
        if offers:
            self.take(self.peer.emit("create-data-channel", "chat", None))
            self.peer.emit("create-offer", None, Gst.Promise.new_with_change_func(self.described, "offer"))

    def found(self, _, index, line):
        say(event="candidate", line=line, index=index)

    def changed(self, peer, property):
        say(event="state", name=property.name, state=peer.get_property(property.name).value_nick)

    def described(self, promise, kind):
        promise.wait()
        reply = promise.get_reply()
        description = reply.get_value(kind)
        text = description.sdp.as_text()
        done = Gst.Promise.new()
        self.peer.emit("set-local-description", description, done)
        done.interrupt()
        say(event="description", type=kind, sdp=text)

    def take(self, channel):
        # The bindings let go of what nobody holds.
        self.channels.append(channel)
        channel.connect("on-open", lambda channel: say(event="open", label=channel.get_property("label")))
        channel.connect("on-message-string", self.hear)
        channel.connect("on-message-data", self.hear_bytes)
        channel.connect("on-close", lambda _: say(event="closed"))
        if channel.get_property("ready-state") == GstWebRTC.WebRTCDataChannelState.OPEN:
            say(event="open", label=channel.get_property("label"))

    def hear(self, channel, text):
        say(event="message", text=text)
        if not self.offers:
            channel.emit("send-string", text)

    def hear_bytes(self, _, data):
        bytes = data.get_data() if data else b""
        say(event="bytes", count=len(bytes), sum=sum(bytes) % 65521)

    def obey(self, order):
        if "sdp" in order:
            _, message = GstSdp.SDPMessage.new_from_text(order["sdp"])
            kind = GstWebRTC.WebRTCSDPType.OFFER if order["type"] == "offer" else GstWebRTC.WebRTCSDPType.ANSWER
            description = GstWebRTC.WebRTCSessionDescription.new(kind, message)
            promise = Gst.Promise.new_with_change_func(self.accepted, order["type"])
            self.peer.emit("set-remote-description", description, promise)
        elif "candidate" in order:
            self.peer.emit("add-ice-candidate", 0, order["candidate"])
        elif "text" in order:
            self.channels[-1].emit("send-string", order["text"])
        elif "bytes" in order:
            data = bytes(index % 251 for index in range(order["bytes"]))
            self.channels[-1].emit("send-data", GLib.Bytes.new(data))
        return False

    def accepted(self, _, kind):
        if kind == "offer":
            self.peer.emit("create-answer", None, Gst.Promise.new_with_change_func(self.described, "answer"))


def main():
    Gst.init(None)
    loop = GLib.MainLoop()
    peer = Peer(sys.argv[1] == "offer", sys.argv[2:])

    def read():
        for line in sys.stdin:
            GLib.idle_add(peer.obey, json.loads(line))
        GLib.idle_add(loop.quit)

    threading.Thread(target=read, daemon=True).start()
    loop.run()
    peer.pipeline.set_state(Gst.State.NULL)


main()
