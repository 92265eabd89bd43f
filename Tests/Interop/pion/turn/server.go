package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"

	"github.com/pion/dtls/v2"
	"github.com/pion/turn/v2"
)

const realm = "pion"

func serve(arguments []string, password string) error {
	host := arguments[0]
	plain, secure := net.JoinHostPort(host, arguments[1]), net.JoinHostPort(host, arguments[2])
	user := arguments[3]
	certificate, err := tls.LoadX509KeyPair(arguments[4], arguments[5])
	if err != nil {
		return err
	}
	relays := &turn.RelayAddressGeneratorStatic{RelayAddress: net.ParseIP(host), Address: host}
	packets, err := net.ListenPacket("udp4", plain)
	if err != nil {
		return err
	}
	streams, err := net.Listen("tcp4", plain)
	if err != nil {
		return err
	}
	secureStreams, err := tls.Listen("tcp4", secure, &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(arguments[2])
	if err != nil {
		return err
	}
	securePackets, err := dtls.Listen(
		"udp4", &net.UDPAddr{IP: net.ParseIP(host), Port: port},
		&dtls.Config{Certificates: []tls.Certificate{certificate}},
	)
	if err != nil {
		return err
	}
	server, err := turn.NewServer(turn.ServerConfig{
		Realm: realm,
		AuthHandler: func(name, realm string, _ net.Addr) ([]byte, bool) {
			return turn.GenerateAuthKey(user, realm, password), name == user
		},
		PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: packets, RelayAddressGenerator: relays}},
		ListenerConfigs: []turn.ListenerConfig{
			{Listener: streams, RelayAddressGenerator: relays},
			{Listener: secureStreams, RelayAddressGenerator: relays},
			{Listener: securePackets, RelayAddressGenerator: relays},
		},
	})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return server.Close()
}
