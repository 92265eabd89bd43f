package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/pion/dtls/v2"
	"github.com/pion/stun"
	"github.com/pion/turn/v2"
)

const (
	// Datagrams that are under way at once, which no socket's buffer minds.
	window = 16
	limit  = 30 * time.Second
)

type exchangePlan struct {
	address, transport, user, password, authorities string
	count                                           int
}

// report is printed, whatever happened.
type report struct {
	Transport string  `json:"transport"`
	Relayed   string  `json:"relayed"`
	Mapped    string  `json:"mapped"`
	Local     string  `json:"local"`
	Lifetime  uint32  `json:"lifetimeSeconds"`
	Sent      int     `json:"sent"`
	Arrived   int     `json:"arrived"`
	Returned  int     `json:"returned"`
	Broken    int     `json:"broken"`
	Failure   *string `json:"failure"`
}

func plan(arguments []string, password string) exchangePlan {
	count, err := strconv.Atoi(arguments[4])
	if err != nil {
		log.Fatal(err)
	}
	return exchangePlan{
		address: net.JoinHostPort(arguments[0], arguments[1]), transport: arguments[2], user: arguments[3],
		count: count, authorities: arguments[5], password: password,
	}
}

func exchange(plan exchangePlan) report {
	told := report{Transport: plan.transport}
	if err := told.fill(plan); err != nil {
		text := err.Error()
		told.Failure = &text
	}
	return told
}

func (r *report) fill(plan exchangePlan) error {
	connection, err := dial(plan)
	if err != nil {
		return err
	}
	defer connection.Close()
	r.Local = connection.LocalAddr().String()
	client, err := turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: plan.address, TURNServerAddr: plan.address, Conn: connection,
		Username: plan.user, Password: plan.password,
	})
	if err != nil {
		return err
	}
	defer client.Close()
	if err = client.Listen(); err != nil {
		return err
	}
	mapped, err := client.SendBindingRequest()
	if err != nil {
		return err
	}
	r.Mapped = mapped.String()
	relay, err := client.Allocate()
	if err != nil {
		return err
	}
	r.Relayed = relay.LocalAddr().String()
	if err = r.run(plan.count, client, relay); err != nil {
		_ = relay.Close()
		return err
	}
	if r.Lifetime, err = refresh(client, plan, 1800); err != nil {
		_ = relay.Close()
		return fmt.Errorf("refresh: %w", err)
	}
	// Which gives the allocation back.
	return relay.Close()
}

// run sends to a socket beside the relay, which sends everything back.
func (r *report) run(count int, client *turn.Client, relay net.PacketConn) error {
	host, _, err := net.SplitHostPort(r.Relayed)
	if err != nil {
		return err
	}
	peer, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	if err != nil {
		return err
	}
	defer peer.Close()
	if err = client.CreatePermission(peer.LocalAddr()); err != nil {
		return err
	}
	arrived := make(chan int)
	go reflect(peer, r.Relayed, arrived)
	if err = relay.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	isBack := make([]bool, count)
	buffer := make([]byte, 2048)
	for r.Returned+r.Broken < count {
		for r.Sent < count && r.Sent-r.Returned-r.Broken < window {
			if _, err = relay.WriteTo(datagram(r.Sent), peer.LocalAddr()); err != nil {
				return err
			}
			r.Sent++
		}
		length, source, err := relay.ReadFrom(buffer)
		if err != nil {
			return err
		}
		number := numberOf(buffer[:length])
		if number < 0 || number >= count || isBack[number] || source.String() != peer.LocalAddr().String() {
			r.Broken++
			continue
		}
		isBack[number] = true
		r.Returned++
	}
	peer.Close()
	r.Arrived = <-arrived
	return nil
}

// reflect counts what came as it was sent.
func reflect(peer net.PacketConn, relayed string, arrived chan<- int) {
	count := 0
	buffer := make([]byte, 2048)
	for {
		length, source, err := peer.ReadFrom(buffer)
		if err != nil {
			arrived <- count
			return
		}
		if numberOf(buffer[:length]) >= 0 && source.String() == relayed {
			count++
		}
		_, _ = peer.WriteTo(buffer[:length], source)
	}
}

// refresh asks for another lifetime, by pion's messages and transactions: the client itself does so after half of the
// lifetime, which no test waits for.
func refresh(client *turn.Client, plan exchangePlan, seconds uint32) (uint32, error) {
	lifetime := stun.RawAttribute{Type: stun.AttrLifetime, Value: binary.BigEndian.AppendUint32(nil, seconds)}
	kind := stun.NewType(stun.MethodRefresh, stun.ClassRequest)
	server, err := net.ResolveUDPAddr("udp", plan.address)
	if err != nil {
		return 0, err
	}
	ask := func(setters ...stun.Setter) (*stun.Message, error) {
		request, err := stun.Build(append([]stun.Setter{stun.TransactionID, kind, attribute(lifetime)}, setters...)...)
		if err != nil {
			return nil, err
		}
		answer, err := client.PerformTransaction(request, server, false)
		return answer.Msg, err
	}
	challenge, err := ask()
	if err != nil {
		return 0, err
	}
	var nonce stun.Nonce
	var realm stun.Realm
	if err = challenge.Parse(&nonce, &realm); err != nil {
		return 0, err
	}
	answer, err := ask(
		stun.NewUsername(plan.user), realm, nonce,
		stun.NewLongTermIntegrity(plan.user, realm.String(), plan.password), stun.Fingerprint,
	)
	if err != nil {
		return 0, err
	}
	granted, err := answer.Get(stun.AttrLifetime)
	if err != nil || answer.Type.Class != stun.ClassSuccessResponse || len(granted) != 4 {
		return 0, fmt.Errorf("%v", answer)
	}
	return binary.BigEndian.Uint32(granted), nil
}

// attribute adds itself to a message as it is.
type attribute stun.RawAttribute

func (a attribute) AddTo(message *stun.Message) error {
	message.Add(a.Type, a.Value)
	return nil
}

func dial(plan exchangePlan) (net.PacketConn, error) {
	host, _, err := net.SplitHostPort(plan.address)
	if err != nil {
		return nil, err
	}
	if plan.transport == "udp" {
		return net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	}
	trusted := x509.NewCertPool()
	text, err := os.ReadFile(plan.authorities)
	if err != nil {
		return nil, err
	}
	trusted.AppendCertsFromPEM(text)
	var stream net.Conn
	switch plan.transport {
	case "tcp":
		stream, err = net.Dial("tcp", plan.address)
	case "tls":
		stream, err = tls.Dial("tcp", plan.address, &tls.Config{RootCAs: trusted, ServerName: host})
	case "dtls":
		var server *net.UDPAddr
		if server, err = net.ResolveUDPAddr("udp", plan.address); err == nil {
			stream, err = dtls.Dial("udp", server, &dtls.Config{RootCAs: trusted, ServerName: host})
		}
	default:
		err = fmt.Errorf("what is %s?", plan.transport)
	}
	if err != nil {
		return nil, err
	}
	if plan.transport == "dtls" {
		return datagrams{stream}, nil
	}
	return turn.NewSTUNConn(stream), nil
}

// datagrams is a connection that keeps messages apart.
type datagrams struct{ net.Conn }

func (d datagrams) ReadFrom(buffer []byte) (int, net.Addr, error) {
	length, err := d.Read(buffer)
	return length, d.RemoteAddr(), err
}

func (d datagrams) WriteTo(data []byte, _ net.Addr) (int, error) { return d.Write(data) }

// datagram has the number, and as many bytes that follow from it as make up many lengths.
func datagram(number int) []byte {
	data := binary.BigEndian.AppendUint64(nil, uint64(number))
	for index := 0; index < number*37%1100; index++ {
		data = append(data, byte(number*31+index))
	}
	return data
}

// numberOf is -1 for what was not sent.
func numberOf(data []byte) int {
	if len(data) < 8 {
		return -1
	}
	number := binary.BigEndian.Uint64(data)
	if number > 1<<30 || string(datagram(int(number))) != string(data) {
		return -1
	}
	return int(number)
}
