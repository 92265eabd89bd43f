// A peer by pion/webrtc, for the tests. It signs in at a signaling server, registers an id, answers whoever calls, and
// sends back what comes on channels that others open. What it is to do beside comes as JSON, one object a line, on
// standard input, and what happens goes to standard output in the same form. It ends when standard input does.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"sync"

	"github.com/pion/webrtc"
)

// order is a line of standard input.
type order struct {
	Do    string `json:"do"`
	To    string `json:"to"`
	Label string `json:"label"`

	// Of the channel to be opened.
	Protocol          string  `json:"protocol"`
	Unordered         bool    `json:"unordered"`
	MaxRetransmits    *uint16 `json:"maxRetransmits"`
	MaxPacketLifeTime *uint16 `json:"maxPacketLifeTime"`

	// Of the messages to be sent.
	Count int  `json:"count"`
	Bytes int  `json:"bytes"`
	Text  bool `json:"text"`
}

// fact is what a line of standard output says beside its event.
type fact map[string]any

var output sync.Mutex

func tell(event string, facts fact) {
	line := fact{"event": event}
	for name, value := range facts {
		line[name] = value
	}
	text, err := json.Marshal(line)
	if err != nil {
		log.Fatal(err)
	}
	output.Lock()
	defer output.Unlock()
	fmt.Println(string(text))
}

func main() {
	address := flag.String("signaling", "", "`URL` of the signaling server; SSL_CERT_FILE names who signed for it")
	user := flag.String("user", "", "who signs in, by the password in TURN_PASSWORD")
	id := flag.String("id", "", "the peer `id` to be registered")
	relayOnly := flag.Bool("relay", false, "use relays and nothing else")
	servers := flag.String("servers", "", "use those servers alone whose URL has this `word` in it")
	setup := flag.String("setup", "actpass", "the DTLS `role` that an offer asks for, or the answer takes")
	lite := flag.Bool("lite", false, "be an ICE lite agent")
	flag.Parse()

	link, err := signIn(*address, *user, os.Getenv("TURN_PASSWORD"), *id)
	if err != nil {
		log.Fatal(err)
	}
	peer := &peer{id: *id, link: link, setup: *setup, channels: map[string]*channel{}}
	peer.api, err = api(*setup, *lite)
	if err != nil {
		log.Fatal(err)
	}
	if !*lite {
		peer.configuration.ICEServers = chosen(link.servers, *servers)
	}
	if *relayOnly {
		peer.configuration.ICETransportPolicy = webrtc.ICETransportPolicyRelay
	}
	tell("registered", fact{"id": *id})
	go link.read(peer.take)

	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var next order
		if err := json.Unmarshal(lines.Bytes(), &next); err != nil {
			log.Fatal(err)
		}
		if err := peer.obey(next); err != nil {
			tell("error", fact{"do": next.Do, "error": err.Error()})
		}
	}
	if err := peer.obey(order{Do: "hang up"}); err != nil {
		log.Fatal(err)
	}
}

// chosen leaves the URLs that have the word in them.
func chosen(servers []iceServer, word string) (kept []webrtc.ICEServer) {
	for _, server := range servers {
		entry := webrtc.ICEServer{Username: server.Username, Credential: server.Credential}
		for _, url := range server.URLs {
			if strings.Contains(url, word) {
				entry.URLs = append(entry.URLs, url)
			}
		}
		if len(entry.URLs) > 0 {
			kept = append(kept, entry)
		}
	}
	return kept
}
